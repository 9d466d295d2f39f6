"""Owns the proof that the files of the pages are the same whether the gateway or the core answers."""

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from gateway.http.head import Field
from gateway.static_files import StaticFiles
from registry_core.routes.pages_assets import load_assets
from tests.support.fake_exchange import make_head

ASSETS = load_assets()
FRAMING = {"content-length"}


def of_the_core(path: str, *fields: Field) -> tuple[int, dict[str, str], bytes]:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=Starlette(routes=[ASSETS.route()]))
        async with httpx.AsyncClient(transport=transport, base_url="http://core") as client:
            return await client.get(path, headers=list(fields))

    answer = asyncio.run(ask())
    return answer.status_code, {k: v for k, v in answer.headers.items() if k not in FRAMING}, answer.content


@pytest.mark.parametrize("name", sorted(ASSETS.files))
def test_each_is_answered_as_the_core_does(name: str) -> None:
    path = ASSETS.url(name)
    for fields in ((), (("if-none-match", '"other"'),)):
        reply = StaticFiles().answer(make_head("GET", path, *fields))
        assert reply is not None
        assert (reply.status, dict(reply.fields), reply.body) == of_the_core(path, *fields)
        assert reply.body == ASSETS.files[name]
        etag = dict(reply.fields)["etag"]
    known: Field = ("if-none-match", etag)
    reply = StaticFiles().answer(make_head("HEAD", path, known))
    assert reply is not None
    assert (reply.status, dict(reply.fields), reply.body) == of_the_core(path, known)
    assert reply.status == 304


def test_what_the_core_knows_better_is_left_to_it() -> None:
    files, path = StaticFiles(), ASSETS.url("icon.svg")
    assert files.answer(make_head("GET", f"{path}?v=1")) is not None
    for method, other in (
        ("POST", path),
        ("GET", "/static/0123456789ab/icon.svg"),
        ("GET", f"/static/{ASSETS.version}/none.svg"),
        ("GET", f"/static/{ASSETS.version}/"),
        ("GET", f"/static/{ASSETS.version}/../{ASSETS.version}/icon.svg"),
        ("GET", f"/{path}"),
    ):
        assert files.answer(make_head(method, other)) is None


def test_a_gateway_alone_has_none(tmp_path: Path) -> None:
    assert StaticFiles(tmp_path / "nowhere").answer(make_head("GET", ASSETS.url("icon.svg"))) is None
