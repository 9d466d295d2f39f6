"""Owns what a PostgreSQL server that is started again means for those who ask: nothing."""

from pathlib import Path

from sqlalchemy import create_engine, text

from tests.support.core import open_core
from tests.support.library_push import push
from tests.support.postgres import PostgresServer

_END_ALL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = :name"


def test_connections_that_the_server_ended_are_made_anew(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.new_database()
    core = open_core(tmp_path, database_url=url)
    core.add_user("alice")
    push(core, "alice/test/tool", b"content", by="alice", tag="v1")
    engine = create_engine(postgres.url("postgres"))
    try:
        for target in ("/v1/images/alice/test/tool:v1", "/v1/collections/alice/test"):
            assert core.call("GET", target, by="alice").status == 200
            with engine.connect() as other:
                ended = other.execute(
                    text(_END_ALL), {"name": core.registry.database.url.database}
                ).scalar_one()
            assert ended >= 1
            assert core.call("GET", target, by="alice").status == 200
    finally:
        engine.dispose()
        core.registry.database.close()
