"""Owns a core of few words: a process that answers health, tickets and commits on a unix socket.

Run as a program so that it can be stopped, killed and started again: ``python -m tests.support.fake_core serve
--data-dir D`` listens where the gateway expects its core. What it is told is appended to ``D/told.jsonl``.
"""

import argparse
import json
import os
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from gateway.contract import COMMITS_PATH, TICKETS_PATH, Ticket, load_secret, seal


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    data_dir: Path
    secret: bytes

    def do_GET(self) -> None:
        self._answer(200, {"status": "ok", "path": self.path})

    def do_POST(self) -> None:
        value = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        match self.path:
            case path if path == TICKETS_PATH:
                ticket = Ticket(kind="web", id="0" * 32, entity="alice", collection="test")
                self._answer(200, {"ticket": seal(self.secret, ticket)})
            case path if path == COMMITS_PATH:
                with (self.data_dir / "told.jsonl").open("a") as file:
                    file.write(json.dumps(value) + "\n")
                images = [
                    {
                        "ref": f"alice/test/{i['name']}:v1",
                        "sha256": i["sha256"],
                        "size": i["size"],
                        "url": "/x",
                    }
                    for i in value["images"]
                ]
                self._answer(200, {"data": {"images": images}})
            case _:
                self._answer(404, {"error": {"code": 404, "message": "There is nothing here."}})

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Threads, so that one silent connection does not block the others."""

    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--config")
    arguments = parser.parse_args()
    Handler.data_dir = arguments.data_dir
    Handler.secret = load_secret(arguments.data_dir / "secrets" / "internal.key")
    path = arguments.data_dir / "run" / "core.sock"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{os.getpid()}.sock")
    with Server(str(fresh), Handler) as server:
        fresh.replace(path)
        print("ready", file=sys.stderr, flush=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        thread.join()


if __name__ == "__main__":
    main()
