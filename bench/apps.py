"""Owns the peers in Python: what a team would write today with Starlette, uvicorn, python-multipart and httpx.

Run by uvicorn (``bench.apps:form_app`` and so on); BENCH_TARGET, BENCH_FSYNC and BENCH_UPSTREAM come by environment.
"""

import asyncio
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route


def _open_target() -> BinaryIO:
    return (Path(os.environ["BENCH_TARGET"]) / uuid.uuid4().hex).open("wb")


def _finish(file: BinaryIO) -> None:
    file.flush()
    if os.environ.get("BENCH_FSYNC") == "1":
        os.fsync(file.fileno())
        folder = os.open(os.environ["BENCH_TARGET"], os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)  # a file whose name is lost is lost
        os.close(folder)
    file.close()


async def _form(request: Request) -> Response:
    """``request.form()`` spools the file; then it is copied to where it shall stay."""
    async with request.form() as form:
        source = form["file"].file  # type: ignore[union-attr]
        await asyncio.to_thread(_copy, source)
    return PlainTextResponse("ok")


def _copy(source: BinaryIO) -> None:
    target = _open_target()
    shutil.copyfileobj(source, target, 1 << 20)
    _finish(target)


async def _stream(request: Request) -> Response:
    """python-multipart fed from the body stream: every piece is hashed and written as it comes."""
    boundary = parse_options_header(request.headers["content-type"])[1][b"boundary"]
    target, digest = _open_target(), hashlib.sha256()

    def on_data(data: bytes, start: int, end: int) -> None:
        piece = memoryview(data)[start:end]
        digest.update(piece)
        target.write(piece)

    parser = MultipartParser(boundary, {"on_part_data": on_data})
    async for chunk in request.stream():
        parser.write(chunk)
    parser.finalize()
    await asyncio.to_thread(_finish, target)
    return PlainTextResponse(digest.hexdigest())


async def _proxy(request: Request) -> Response:
    """The usual streaming reverse proxy of Starlette and httpx."""
    client: httpx.AsyncClient = request.state.client
    upstream = client.build_request(
        request.method,
        httpx.URL(os.environ["BENCH_UPSTREAM"] + request.url.path),
        headers=[(k, v) for k, v in request.headers.raw if k not in {b"host", b"connection"}],
        content=request.stream(),
    )
    answer = await client.send(upstream, stream=True)
    return StreamingResponse(
        answer.aiter_raw(),
        answer.status_code,
        headers=dict(answer.headers),
        background=BackgroundTask(answer.aclose),
    )


@asynccontextmanager
async def _client(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
    async with httpx.AsyncClient(timeout=None) as client:
        yield {"client": client}


form_app = Starlette(routes=[Route("/upload", _form, methods=["POST"])])
stream_app = Starlette(routes=[Route("/upload", _stream, methods=["POST"])])
proxy_app = Starlette(routes=[Route("/{path:path}", _proxy)], lifespan=_client)
