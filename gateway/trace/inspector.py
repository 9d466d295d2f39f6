"""Owns mitmproxy's engine: reverse proxies on loopback through which a hop is led for as long as trace runs.

The only module of the product that imports mitmproxy, and only the process of ``gateway trace`` imports it. Bodies
stream through, whatever their size; of a refusal by S3 the first bytes are looked at for its error code.
"""

import asyncio
import logging
import shutil
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import h11

from gateway.trace.relay import UnixRelay

with warnings.catch_warnings():  # what its parsers think of each other is not our users' concern
    warnings.simplefilter("ignore")
    from mitmproxy import ctx, http, options
    from mitmproxy.proxy.layers.http import _http1
    from mitmproxy.tools.dump import DumpMaster

_START_S: Final = 20.0


class InspectorFailed(Exception):
    """mitmproxy did not start; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where a hop leads. ``url`` is ``unix:/path`` or ``http(s)://host:port``; ``ca_file`` signed its certificate."""

    kind: str
    url: str
    ca_file: Path | None = None
    listen: str = "127.0.0.1:0"


class Streaming:
    """An addon: no body is ever kept. Others may put their own stream function in its place."""

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        flow.request.stream = flow.request.stream or True

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is not None:
            flow.response.stream = flow.response.stream or True


@dataclass(slots=True)
class Inspector:
    """``async with Inspector(upstreams, addons) as inspector``: then ``addresses`` has the first proxy of each kind."""

    upstreams: tuple[Upstream, ...]
    addons: tuple[object, ...] = ()
    addresses: dict[str, str] = field(default_factory=dict)
    _master: Any = None  # mitmproxy's masters and addons are not typed
    _running: asyncio.Task[None] | None = None
    _relays: list[UnixRelay] = field(default_factory=list)
    _home: str = ""

    async def __aenter__(self) -> Self:
        """Raises: InspectorFailed."""
        self._home = await asyncio.to_thread(tempfile.mkdtemp, prefix="gateway-trace-")
        modes = [await self._mode_of(upstream, number) for number, upstream in enumerate(self.upstreams, 1)]
        trusted = next((str(up.ca_file) for up in self.upstreams if up.ca_file), None)
        logging.getLogger("mitmproxy").setLevel(logging.ERROR)
        opts: Any = options.Options(confdir=self._home, mode=modes)
        self._master = DumpMaster(opts, with_termlog=False, with_dumper=False)
        opts.update(
            keep_host_header=True,  # S3 signatures cover it, and the core makes links of it
            ssl_verify_upstream_trusted_ca=trusted,
            validate_inbound_headers=False,  # the gateway is the strict one; this hop shows what is there
            connection_strategy="lazy",
            show_ignored_hosts=False,
            http2=False,
        )
        self._master.addons.add(*self.addons, Streaming())
        _http1.make_body_reader = _make_body_reader
        started = _Started()
        self._master.addons.add(started)
        self._running = asyncio.create_task(_run(self._master))
        await asyncio.wait(
            (self._running, started.future), return_when=asyncio.FIRST_COMPLETED, timeout=_START_S
        )
        if not started.future.done():
            await self.__aexit__()
            raise InspectorFailed("mitmproxy did not start")
        self._find_addresses()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._master is not None:
            await _stop_listening(self._master)
            self._master.shutdown()
        if self._running is not None:
            with suppress(asyncio.CancelledError, SystemExit):
                await self._running
        for relay in self._relays:
            await relay.aclose()
        await asyncio.to_thread(shutil.rmtree, self._home, ignore_errors=True)

    async def _mode_of(self, upstream: Upstream, number: int) -> str:
        url = upstream.url
        if url.startswith("unix:"):
            relay = UnixRelay(url.removeprefix("unix:"))
            self._relays.append(relay)
            url = f"http://{await relay.start()}"
        # Two listeners of one host and port 0 look like a clash to mitmproxy.
        listen = upstream.listen if upstream.listen != "127.0.0.1:0" else f"127.0.0.{number}:0"
        return f"reverse:{url}@{listen}"

    def _find_addresses(self) -> None:
        server = self._master.addons.get("proxyserver")
        by_mode = {instance.mode.full_spec: instance.listen_addrs for instance in server.servers}
        for upstream, spec in zip(self.upstreams, self._master.options.mode, strict=True):
            if not by_mode.get(spec):
                raise InspectorFailed(f"mitmproxy does not listen for {upstream.kind}")
            host, port, *_ = by_mode[spec][0]
            self.addresses.setdefault(upstream.kind, f"{host}:{port}")

    def kind_of(self, flow: http.HTTPFlow) -> str:
        """Which hop a flow belongs to."""
        spec = flow.client_conn.proxy_mode.full_spec
        return next(
            (
                up.kind
                for up, mode in zip(self.upstreams, self._master.options.mode, strict=True)
                if mode == spec
            ),
            "",
        )


class _Started:
    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def running(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


async def _run(master: Any) -> None:
    try:
        await master.run()
    except SystemExit as exc:  # its way to say that a port is taken
        raise InspectorFailed("mitmproxy could not start") from exc


async def _stop_listening(master: Any) -> None:
    server = master.addons.get("proxyserver")
    for instance in list(server.servers):
        with suppress(Exception):
            await instance.stop()


def cut_client(flow: http.HTTPFlow) -> None:
    """Reset the connection that a request came on, as a crash would."""
    master: Any = ctx.master
    handler = master.addons.get("proxyserver").connections.get(flow.client_conn.id)
    if handler is None:
        return
    for transports in handler.transports.values():
        if transports.writer is not None:
            transports.writer.transport.abort()


class _WithoutTrailers:
    """mitmproxy hangs on trailers of HTTP/1; in this hop they are dropped, as RFC 9110 section 6.5.1 allows."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __call__(self, buffer: Any) -> Any:
        event = self._reader(buffer)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event

    def read_eof(self) -> Any:
        return self._reader.read_eof()


_their_body_reader: Final = _http1.make_body_reader


def _make_body_reader(expected_size: int | None) -> Any:
    reader = _their_body_reader(expected_size)
    return _WithoutTrailers(reader) if expected_size is None else reader
