"""Owns how Alembic runs our migrations: on the connection that ``migrate.py`` hands over."""

from alembic import context

from registry_core.repo.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
