"""Owns nginx as a peer: body to file, sendfile, TLS, and the small upstream that forwarding is measured with."""

from pathlib import Path
from typing import Final

# 481 bytes, as in the measurements that the design's numbers come from.
JSON_BODY: Final = '{"data":{"id":"' + "0123456789abcdef" * 28 + '","ok":1}}'

_CONF: Final = """
daemon off;
user root;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  default_type application/octet-stream;
  client_max_body_size 0;
  client_body_buffer_size 1m;
  client_body_temp_path {target};
  client_body_timeout 300s;
  ssl_certificate {certificate};
  ssl_certificate_key {key};
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_tickets off;
  sendfile on;
  tcp_nopush on;
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl;
    location /upload {{
      client_body_in_file_only on;
      proxy_pass http://127.0.0.1:{plain}/taken;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header X-File $request_body_file;
    }}
    location /taken {{ return 200 "taken"; }}
    location /files/ {{ alias {files}/; }}
    location / {{ default_type application/json; return 200 '{json}'; }}
  }}
}}
"""


def write_conf(
    folder: Path, *, target: Path, files: Path, certificate: Path, key: Path, plain: int, tls: int
) -> Path:
    """The configuration file of one nginx."""
    conf = folder / "nginx.conf"
    conf.write_text(
        _CONF.format(
            folder=folder, target=target, files=files, certificate=certificate, key=key,
            plain=plain, tls=tls, json=JSON_BODY,
        )
    )  # fmt: skip
    return conf
