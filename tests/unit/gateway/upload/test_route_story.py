"""The whole story of an upload route without its sockets: a client's form in, a Flask app's fields out."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest

from gateway.errors import BadForm, BodyTooLarge, ClientError, StoreFull
from gateway.settings_routes import Route
from gateway.upload.digest import Digests
from gateway.upload.form import FormDecoder, FormEnd, FormEvent, PartBegin, PartData, PartEnd
from gateway.upload.plan import StoredFile, make_plan
from gateway.upload.rewritten import EncodedForm, RewrittenForm
from gateway.upload.route_store import RouteStore, RouteWriter, new_name
from tests.support.forms import form, part
from tests.unit.gateway.upload.test_plan import INCUMBENT

FILE = 'name="file1"; filename="a.sif"\r\nContent-Type: application/octet-stream'


def _route(folder: Path, **settings: Any) -> Route:
    common = {
        "path": "/u",
        "action": "upload",
        "upstream": "http://127.0.0.1:1",
        "store": folder,
        "store_levels": [1],
    }
    return Route.model_validate({**common, **INCUMBENT, "file_fields": ["sha256"], **settings})


def _blocks(body: bytes) -> Iterator[bytearray]:
    for start in range(0, len(body), 50):
        yield bytearray(body[start : start + 50])


def _upload(route: Route, body: bytes) -> EncodedForm:
    """What the body path does, in its order."""
    story = _Story(route)
    decoder = FormDecoder(b"b", story.plan.limits)
    try:
        for block in _blocks(body):
            for event in decoder.feed(block, 0, len(block)):
                story.take(event)
        decoder.finish()
        return story.rewritten.encode()
    except BaseException:
        for writer in story.writers:
            writer.discard()
        raise


class _Story:
    def __init__(self, route: Route) -> None:
        assert route.store is not None
        self.route = route
        self.plan = make_plan(route)
        self.rewritten = RewrittenForm(self.plan, {})
        self.writers: list[RouteWriter] = []
        self._store = RouteStore(
            route.store,
            levels=route.store_levels,
            access=route.store_access,
            reserve_bytes=route.reserve_bytes,
            fsync=route.fsync,
        )
        self._part: PartBegin | None = None
        self._value = bytearray()
        self._size = 0
        self._digests = Digests([])

    def take(self, event: FormEvent) -> None:
        match event:
            case PartBegin():
                self._begin(event)
            case PartData(data):
                self._data(data)
            case PartEnd():
                self._end()
            case FormEnd():
                pass

    def _begin(self, part: PartBegin) -> None:
        self._part, self._size = part, 0
        self._value.clear()
        if part.is_file:
            self.writers.append(self._store.create(new_name(), size_hint=None))
            self._digests = Digests(self.plan.digests)

    def _data(self, data: memoryview | bytes) -> None:
        assert self._part is not None
        if not self._part.is_file:
            self._value += data
            return
        self._size += len(data)
        if self.route.max_file_bytes and self._size > self.route.max_file_bytes:
            raise BodyTooLarge
        self.writers[-1].write(data)
        self._digests.update(data)

    def _end(self) -> None:
        assert self._part is not None
        if self._part.is_file:
            sealed = self.writers[-1].seal()
            path = self._store.path_of(sealed.staged)
            stored = StoredFile(path=path, size=sealed.size, digests=self._digests.values())
            self.rewritten.add_file(self._part, stored)
        elif not self._part.no_file_chosen:
            self.rewritten.add_field(self._part.name, bytes(self._value))


def _app() -> flask.Flask:
    """As it was written for the module: it knows nothing of the gateway."""
    app = flask.Flask(__name__)

    @app.post("/done")
    def done() -> dict[str, str]:
        content = Path(flask.request.form["file1.path"]).read_bytes()
        return {**flask.request.form, "content": content.decode(), "files": str(len(flask.request.files))}

    return app


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_flask_app_written_for_the_module_reads_its_fields(tmp_path: Path) -> None:
    body = form(
        part('name="collection"', b"1"),
        part(FILE, b"hello"),
        part('name="file1.path"', b"/etc/passwd"),
        part('name="csrfmiddlewaretoken"', b"x"),
        part('name="empty"; filename=""'),
    )
    sent = _upload(_route(tmp_path / "s"), body)
    (path,) = _files(tmp_path)
    answer = _app().test_client().post("/done", data=sent.body, content_type=sent.content_type)
    assert answer.json == {
        "collection": "1",
        "file1.name": "a.sif",
        "file1.content_type": "application/octet-stream",
        "file1.path": str(path),
        "file1.md5": "5d41402abc4b2a76b9719d911017c592",
        "file1.sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "file1.size": "5",
        "content": "hello",
        "files": "0",
    }


GOOD = part(FILE, b"good")
FAULTS: dict[str, tuple[dict[str, Any], bytes, type[Exception]]] = {
    "defect 2: a malformed part after a good file": ({}, form(GOOD, part('!"', b"x")), BadForm),
    "defect 2: an empty body": ({}, b"", BadForm),
    "a cut body": ({}, GOOD + GOOD[:-8], BadForm),
    "no closing dashes": ({}, GOOD + b"--b\r\n", BadForm),
    "a file over the limit": ({"max_file_bytes": 4}, form(GOOD, part(FILE, b"large")), BodyTooLarge),
    "a form over the limit": ({"max_total_bytes": 100}, form(GOOD, GOOD), BodyTooLarge),
    "defect 10: too many files": ({"max_files": 3}, form(*[GOOD] * 4), BodyTooLarge),
    "too many fields to send": ({"max_output_bytes": 100}, form(GOOD, GOOD), BodyTooLarge),
    "defect 8: a full disk": ({"reserve_bytes": 1 << 60}, form(GOOD), StoreFull),
}


@pytest.mark.parametrize(("settings", "body", "refusal"), FAULTS.values(), ids=FAULTS.keys())
def test_a_form_that_fails_is_refused_whole_and_leaves_no_file(
    tmp_path: Path, settings: dict[str, Any], body: bytes, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        _upload(_route(tmp_path / "s", **settings), body)
    assert _files(tmp_path) == []


def test_exactly_the_limits_are_accepted(tmp_path: Path) -> None:
    settings = {"max_file_bytes": 4, "max_files": 3, "max_total_bytes": len(form(GOOD) + GOOD * 2)}
    _upload(_route(tmp_path / "s", **settings), form(GOOD, GOOD, GOOD))
    assert len(_files(tmp_path)) == 3


def test_defect_9_hash_folders_need_not_exist_whatever_a_name_ends_in(tmp_path: Path) -> None:
    _upload(_route(tmp_path / "s", store_levels=[1, 2]), form(*[GOOD] * 40))
    assert len(_files(tmp_path)) == 40


def test_defect_6_two_uploads_never_share_a_name(tmp_path: Path) -> None:
    route = _route(tmp_path / "s")
    for _ in range(3):
        _upload(route, form(GOOD))
    assert len({path.name for path in _files(tmp_path)}) == 3


def test_a_fault_of_the_client_is_one(tmp_path: Path) -> None:
    with pytest.raises(ClientError) as caught:
        _upload(_route(tmp_path / "s"), b"x" * 10)
    assert caught.value.status == 400
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - not even a folder
