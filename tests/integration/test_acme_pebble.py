"""Certificates from a real authority (Let's Encrypt's Pebble, strict), while the door stays open."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop

from gateway.acme.keeper import Keeper
from gateway.acme.state import AcmeState
from gateway.net.certificate import parse_certificates
from gateway.net.tls import CertificateSource
from tests.support.acme_door import (
    NAMES,
    Place,
    anyone,
    ask,
    make_due,
    open_door,
    reluctant_place,
    sources,
    trusting,
)
from tests.support.pebble import EAB_KEY, EAB_KID, running_pebble
from tests.support.product import free_port


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with reluctant_place(tmp_path) as made:
        yield made


def on_asyncio(story: Coroutine[object, object, None]) -> None:
    asyncio.run(story)


def on_uvloop(story: Coroutine[object, object, None]) -> None:
    uvloop.run(story)


@pytest.mark.parametrize(
    ("challenge", "run"), [("http-01", on_uvloop), ("tls-alpn-01", on_uvloop), ("tls-alpn-01", on_asyncio)]
)
def test_two_names_get_one_certificate_while_visitors_see_the_stand_in(
    challenge: str, run: Callable[[Coroutine[object, object, None]], None], place: Place
) -> None:
    source, keeper = sources(place.settings(acme_challenge=challenge))
    stand_in = source.facts
    assert stand_in.self_signed

    async def story() -> None:
        async with open_door(place, source):
            turn = asyncio.create_task(keeper.step())
            seen = set()
            while not turn.done():
                seen.add(await ask(place, anyone()))
                await asyncio.sleep(0.01)
            assert await turn == "issued", source.last_error
            for name in NAMES:
                await ask(place, trusting(place), name)
            serials = {parse_certificates(ssl.DER_cert_to_PEM_cert(der).encode(), "seen")[0] for der in seen}
            shown = {f"{certificate.serial_number:x}" for certificate in serials}
            assert shown <= {stand_in.serial, source.facts.serial}, (
                "a visitor got the validator's certificate"
            )
            assert await keeper.step() == "advised"
            assert await keeper.step() == ""

    run(story())
    facts = source.facts
    assert set(facts.names) == set(NAMES)
    assert facts.key_type == "ECDSA secp256r1"
    assert not list((place.data_dir / "acme" / "tls-challenges").glob("*"))
    assert not list((place.data_dir / "acme" / "challenges").glob("*"))


def test_a_renewal_under_load_fails_no_request(place: Place) -> None:
    settings = place.settings(acme_key_type="rsa")
    source, keeper = sources(settings)
    other_worker, _ = sources(settings)
    failures: list[BaseException] = []
    served: list[bytes] = []

    async def load(context: ssl.SSLContext, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with asyncio.TaskGroup() as group:
                    asked = [group.create_task(ask(place, context)) for _ in range(10)]
                    await asyncio.sleep(0.1)
            except* Exception as group_error:
                failures.extend(group_error.exceptions)
            else:
                served.extend(task.result() for task in asked)

    async def story() -> None:
        async with open_door(place, source):
            assert await keeper.step() == "issued", source.last_error
            assert await keeper.step() == "advised"
            context, stop = trusting(place), asyncio.Event()
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", place.tls_port, ssl=context, server_hostname=NAMES[0]
            )
            running = asyncio.create_task(load(context, stop))
            make_due(place)
            assert await keeper.step() == "issued", source.last_error
            stop.set()
            await running
            served.append(await ask(place, context))
            writer.write(b"ping\n")
            assert await reader.readline() == b"pong\n"
            writer.close()

    asyncio.run(story())
    assert failures == []
    assert len(set(served)) == 2, "visitors saw the old certificate and the new one"
    assert source.facts.key_type == "RSA 2048"
    other_worker.poll()
    assert other_worker.poll()
    assert other_worker.facts.serial == source.facts.serial


def test_a_refusal_is_told_remembered_and_not_repeated_by_a_restart(place: Place) -> None:
    settings = place.settings()
    source, keeper = sources(settings)

    async def refused() -> None:
        async with open_door(place, source, answers=False):
            assert await keeper.step() == "failed"
            assert await keeper.step() == ""
            again, restarted = sources(settings)
            assert await restarted.step() == ""
            assert again.facts.self_signed

    asyncio.run(refused())
    assert "could not verify" in source.last_error
    assert "port 80" in source.last_error
    state = AcmeState.load(place.data_dir / "acme")
    assert state.failures == 1
    assert state.retry_at is not None
    assert state.retry_at > datetime.now(UTC) + timedelta(minutes=4)

    async def mended() -> None:
        again, restarted = sources(settings)
        async with open_door(place, again):
            AcmeState(plan_id=state.plan_id, failures=1, retry_at=datetime.now(UTC)).save(
                place.data_dir / "acme"
            )
            assert await restarted.step() == "issued", again.last_error
            assert AcmeState.load(place.data_dir / "acme").failures == 0

    asyncio.run(mended())


def test_a_failed_renewal_leaves_the_working_certificate(place: Place) -> None:
    source, keeper = sources(place.settings())

    async def story() -> None:
        async with open_door(place, source):
            assert await keeper.step() == "issued", source.last_error
        async with open_door(place, source, answers=False):
            before = await ask(place, trusting(place))
            make_due(place)
            assert await keeper.step() == "failed"
            assert await ask(place, trusting(place)) == before

    asyncio.run(story())


def test_valid_authorizations_are_used_again_without_a_challenge(tmp_path: Path) -> None:
    http_port, tls_port = free_port(), free_port()
    with running_pebble(
        tmp_path / "pebble", http_port=http_port, tls_port=tls_port, environment={"PEBBLE_AUTHZREUSE": "100"}
    ) as pebble:
        place = Place(data_dir=tmp_path / "data", http_port=http_port, tls_port=tls_port, pebble=pebble)
        source, keeper = sources(place.settings())

        async def story() -> None:
            async with open_door(place, source):
                assert await keeper.step() == "issued", source.last_error
            make_due(place)
            assert await keeper.step() == "issued", source.last_error

        asyncio.run(story())


def test_an_authority_with_external_accounts_gets_the_binding(tmp_path: Path) -> None:
    http_port, tls_port = free_port(), free_port()
    (tmp_path / "eab.key").write_text(EAB_KEY + "\n")
    with running_pebble(
        tmp_path / "pebble", http_port=http_port, tls_port=tls_port, wants_eab=True
    ) as pebble:
        place = Place(data_dir=tmp_path / "data", http_port=http_port, tls_port=tls_port, pebble=pebble)
        without, refused = sources(place.settings())
        bound, keeper = sources(place.settings(acme_eab_kid=EAB_KID, acme_eab_key_file=tmp_path / "eab.key"))

        async def story() -> None:
            async with open_door(place, bound):
                assert await refused.step() == "failed"
                assert "tls.acme_eab_kid" in without.last_error
                assert await keeper.step() == "issued", bound.last_error

        asyncio.run(story())


def test_an_authority_that_lost_our_account_gets_it_again(tmp_path: Path) -> None:
    http_port, tls_port, api_port = free_port(), free_port(), free_port()
    for _ in range(2):
        with running_pebble(
            tmp_path / "pebble", http_port=http_port, tls_port=tls_port, api_port=api_port
        ) as pebble:
            place = Place(
                data_dir=tmp_path / "data",
                http_port=http_port,
                tls_port=tls_port,
                pebble=pebble,
            )
            source, keeper = sources(place.settings())

            async def story(
                place: Place = place, source: CertificateSource = source, keeper: Keeper = keeper
            ) -> None:
                async with open_door(place, source):
                    assert await keeper.step() == "issued", source.last_error

            asyncio.run(story())
            make_due(place)


def test_an_authority_out_of_reach_is_named(place: Place) -> None:
    nowhere = f"https://localhost:{free_port()}/dir"
    source, keeper = sources(place.settings(acme_directory=nowhere))

    async def story() -> None:
        assert await keeper.step() == "failed"

    asyncio.run(story())
    assert f"{nowhere} cannot be reached: Connection refused" in source.last_error
    untrusted, keeper = sources(place.settings(acme_ca_file=None))
    asyncio.run(story_of(keeper))
    assert "certificate verify failed" in untrusted.last_error


async def story_of(keeper: Keeper) -> None:
    assert await keeper.step() == "failed"
