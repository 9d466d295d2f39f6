"""Owns the import of nginx configurations written as text, for tests. Whatever is printed must load."""

import tomllib

from gateway.import_nginx import as_toml
from gateway.nginx_config import parse_config
from gateway.nginx_result import Imported
from gateway.nginx_routes import translate
from gateway.settings import Settings

MODULE = 'upload_pass @app; upload_store /s; upload_pass_form_field "^a$";'
APP = "location @app { proxy_pass http://127.0.0.1:9; }"


def translated(text: str) -> Imported:
    """What comes of a configuration without includes."""
    made = translate(parse_config(text, file="n", read=lambda _: []))
    Settings.model_validate(tomllib.loads(as_toml(made, source="n")))
    return made
