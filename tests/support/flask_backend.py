"""Owns a Flask application that was written for the nginx upload module, running on a port of its own."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import flask
from werkzeug.serving import make_server


@dataclass(slots=True)
class Heard:
    """One request as the application got it."""

    method: str
    path: str
    fields: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    content_type: str


@dataclass(slots=True)
class FlaskBackend:
    """The running application. ``answer`` may be replaced: it is called for each form."""

    kept: Path
    port: int = 0
    heard: list[Heard] = field(default_factory=list)
    answer: Callable[[], tuple[str, int]] | None = None

    def take(self) -> flask.typing.ResponseReturnValue:
        """What such applications do: move the file away, and say what they have."""
        self._hear()
        if self.answer is not None:
            return self.answer()
        form = flask.request.form
        if "file1.path" in form:
            shutil.move(form["file1.path"], self.kept / form["file1.md5"])
        return flask.jsonify({name: form.getlist(name) for name in form})

    def allow(self) -> flask.typing.ResponseReturnValue:
        """The question of ``auth_url``."""
        self._hear()
        given = flask.request.headers.get("Authorization")
        if given in {"Bearer good", "Bearer known"}:
            return "", 204 if given == "Bearer good" else 403
        return "", 401, {"WWW-Authenticate": 'Bearer realm="app"'}

    def show(self) -> flask.typing.ResponseReturnValue:
        """Any other request."""
        self._hear()
        return self.answer() if self.answer is not None else "shown"

    def _hear(self) -> None:
        request = flask.request
        body = request.get_data(cache=True, parse_form_data=False)
        self.heard.append(
            Heard(
                method=request.method,
                path=request.full_path.rstrip("?"),
                fields={name: request.form.getlist(name) for name in request.form},
                headers=dict(request.headers),
                body=body,
                content_type=request.content_type or "",
            )
        )

    def forms(self) -> list[Heard]:
        """The forms among what was heard."""
        return [heard for heard in self.heard if heard.path.startswith("/done")]


@contextmanager
def running_backend(kept: Path, *, unix: Path | None = None) -> Iterator[FlaskBackend]:
    """The application for the length of a test, on a port or on a unix socket."""
    backend = FlaskBackend(kept=kept)
    kept.mkdir(parents=True, exist_ok=True)
    app = flask.Flask("written-for-the-module")
    app.add_url_rule("/done", view_func=backend.take, methods=["POST"])
    app.add_url_rule("/allow", view_func=backend.allow, methods=["GET"])
    app.add_url_rule(
        "/app/<path:_rest>", view_func=lambda _rest: backend.show(), endpoint="show", methods=["GET", "POST"]
    )
    server = make_server(f"unix://{unix}" if unix else "127.0.0.1", 0, app, threaded=True)
    backend.port = 0 if unix else server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield backend
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
