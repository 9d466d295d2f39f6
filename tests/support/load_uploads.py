"""Owns uploads one after the other, whatever happens: by the form and by tus, each counted for what became of it."""

import hashlib
import http.client
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from tests.support.load import TIMEOUT_S, Answer, Connection, Counts, Cut, ill_formed
from tests.support.product import Product

MIB: Final = 1 << 20
_PAUSE_S: Final = 0.5


class Uploader(threading.Thread):
    """Uploads one image after the other; ``pace_s`` is the least that each takes."""

    def __init__(
        self, product: Product, counts: Counts, *, token: str, number: int, size: int, pace_s: float
    ) -> None:
        super().__init__()
        self.product, self.counts = product, counts
        self.token, self.number, self.size, self.pace_s = token, number, size, pace_s
        self.over = threading.Event()
        self.promised: dict[str, str] = {}
        self.done = 0
        self.sent = 0  # bytes of the upload that runs; 0 between two
        self._block = random.Random(number).randbytes(MIB)

    def blocks(self, turn: int, start: int = 0) -> Iterator[bytes]:
        """The content from ``start``: one random MiB again and again, each with its place and turn in front."""
        for at in range(start - start % MIB, self.size, MIB):
            block = b"%8d%8d" % (turn, at // MIB) + self._block[16:]
            yield block[max(0, start - at) : self.size - at]

    def digest(self, turn: int) -> str:
        digest = hashlib.sha256()
        for block in self.blocks(turn):
            digest.update(block)
        return digest.hexdigest()

    def run(self) -> None:
        count = 0
        while not self.over.is_set():
            count += 1
            name, turn = f"u{self.number}-{count}", count % 4  # four contents: the disk need not hold all
            digest = self.digest(turn)
            if self._persist(name, turn, digest):
                self.promised[f"ada/load/{name}:latest"] = digest
                self.done += 1
            self.sent = 0

    def _persist(self, name: str, turn: int, digest: str) -> bool:
        """Until it is done or has failed: a 503 before the first byte, or a killed worker, is asked again."""
        while not self.over.is_set():
            began = time.monotonic()
            try:
                if self.upload(name, turn, digest):
                    self.counts.add(f"upload complete ({self.kind})")
                    return True
            except Cut as cut:
                self.sent = 0
                if not self.counts.was_killed_between(began, time.monotonic()):
                    self.counts.add("uploads failed")
                    self.counts.fail(f"upload ({self.kind}): {cut}")
                    return False
                self.counts.add(f"upload cut by the kill of its worker, then {self.remedy} ({self.kind})")
            self.over.wait(_PAUSE_S)
        return False

    kind = "form"
    remedy = "sent again"

    def upload(self, name: str, turn: int, digest: str) -> bool:
        """One try; False when it was turned away before its first byte. Raises: Cut."""
        head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}.sif"\r\n\r\n'.encode()
        tail = b"\r\n--b--\r\n"
        connection = Connection(self.product, self.counts)
        connection.connect()
        try:
            answer = self._send_form(connection, name, turn, (head, tail))
        except (OSError, http.client.HTTPException) as exc:
            raise Cut(exc, was_used=False) from exc
        finally:
            connection.close()
        if answer is None:
            return False
        if answer.status == 202:
            self.counts.add("upload answered 202, and complete later (form)")
            answer = self._result(answer.headers["Location"])
        if answer.status in {200, 201} and digest.encode() in answer.body:
            return True
        raise Cut(ValueError(f"{answer.status} {answer.body[:200]!r}"), was_used=False)

    def _send_form(
        self, connection: Connection, name: str, turn: int, around: tuple[bytes, bytes]
    ) -> Answer | None:
        """As curl does: wait for 100 before the bytes. None when turned away."""
        length = len(around[0]) + self.size + len(around[1])
        lines = (
            f"POST /upload?collection=ada/load&name={name} HTTP/1.1",
            f"Host: localhost:{self.product.https_port}",
            f"Authorization: Bearer {self.token}",
            "Content-Type: multipart/form-data; boundary=b",
            "Expect: 100-continue",
            f"Content-Length: {length}",
        )
        sock = connection.http.sock
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        first = b""
        while b"\r\n\r\n" not in first:
            if not (more := sock.recv(4096)):
                raise http.client.RemoteDisconnected("no answer before the body")
            first += more
        if not first.startswith(b"HTTP/1.1 100"):
            self._turned_away(first)
            return None
        sock.sendall(around[0])
        self.send_paced(sock.sendall, turn)
        sock.sendall(around[1])
        answer = http.client.HTTPResponse(sock, method="POST")
        answer.begin()
        return Answer(answer.status, answer.headers, answer.read())

    def _turned_away(self, first: bytes) -> None:
        status, _, head = first.partition(b"\r\n")
        if b" 503 " not in status or b"\nretry-after:" not in head.lower():
            raise Cut(ValueError(f"turned away: {first[:300]!r}"), was_used=False)
        self.counts.add("upload turned away with 503 before its first byte, asked again")

    def send_paced(self, send: Callable[[bytes], object], turn: int, start: int = 0) -> None:
        """The bytes from ``start``, evenly over the time that an upload is to take."""
        began = time.monotonic()
        for block in self.blocks(turn, start):
            send(block)
            self.sent += len(block)
            ahead = began + self.pace_s * self.sent / self.size - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)

    def _result(self, path: str) -> Answer:
        path = path.removeprefix(self.product.base)
        until = time.monotonic() + TIMEOUT_S
        while True:
            connection = Connection(self.product, self.counts)
            answer = connection.ask("GET", path, {"Authorization": f"Bearer {self.token}"})
            connection.close()
            is_open = answer.status in {202, 503} or (answer.status == 200 and b"pending" in answer.body)
            if not is_open or time.monotonic() > until:
                return answer
            time.sleep(_PAUSE_S)


class TusUploader(Uploader):
    """The same by tus: what arrived before a cut is kept."""

    kind = "tus"
    remedy = "gone on with from where it was"
    _url = ""

    def upload(self, name: str, turn: int, digest: str) -> bool:
        if not self._url and not self._create(name):
            return False
        answer = self._tell_offset()
        if answer.status == 503:
            self.counts.add("question for a tus offset answered 503, asked again")
            return False
        if answer.status not in {200, 204}:
            raise Cut(ValueError(f"HEAD: {answer.status} {answer.headers.items()}"), was_used=False)
        offset = int(answer.headers["Upload-Offset"])
        if offset < self.size or "Image-Location" not in answer.headers:
            patched = self._patch(turn, offset)
            if patched is None:
                return False
            answer = patched
        self._url = ""
        place = answer.headers.get("Image-Location", "")
        if "/v2/uploads/" in place:
            self.counts.add("upload told to wait for the core, and complete later (tus)")
            answer = self._result(place)
        shown = answer.headers.get("Image-Digest", "").encode() + answer.body
        if digest.encode() not in shown:
            what = f"PATCH: {answer.status} {answer.headers.items()} {answer.body[:200]!r}"
            raise Cut(ValueError(what), was_used=False)
        return True

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        connection = Connection(self.product, self.counts)
        try:
            return connection.ask(method, path, {"Tus-Resumable": "1.0.0", **headers})
        finally:
            connection.close()

    def _create(self, name: str) -> bool:
        headers = {"Authorization": f"Bearer {self.token}", "Upload-Length": str(self.size)}
        answer = self._ask("POST", f"/uploads/?collection=ada/load&name={name}", headers)
        if answer.status == 503 and not ill_formed(answer, as_html=False):
            self.counts.add("upload turned away with 503 before its first byte, asked again")
            return False
        if answer.status != 201:
            raise Cut(ValueError(f"POST: {answer.status} {answer.body[:200]!r}"), was_used=False)
        self._url = answer.headers["Location"].removeprefix(self.product.base)
        return True

    def _tell_offset(self) -> Answer:
        return self._ask("HEAD", self._url, {})

    def _patch(self, turn: int, offset: int) -> Answer | None:
        connection = Connection(self.product, self.counts)
        connection.connect()
        try:
            self.sent = offset
            asked = connection.http
            asked.putrequest("PATCH", self._url)
            for name, value in (
                ("Tus-Resumable", "1.0.0"),
                ("Content-Type", "application/offset+octet-stream"),
                ("Upload-Offset", str(offset)),
                ("Content-Length", str(self.size - offset)),
            ):
                asked.putheader(name, value)
            asked.endheaders()
            try:
                self.send_paced(asked.send, turn, offset)
            except (BrokenPipeError, ConnectionResetError):
                pass  # perhaps turned away: the answer, if there is one, says why
            answer = connection.answer()
        except (OSError, http.client.HTTPException) as exc:
            raise Cut(exc, was_used=False) from exc
        finally:
            connection.close()
        if answer.status == 503 and not ill_formed(answer, as_html=False):
            self.counts.add("PATCH turned away with 503, asked again")
            self.sent = 0
            return None
        return answer
