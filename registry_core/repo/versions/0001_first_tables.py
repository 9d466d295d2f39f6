"""The first tables."""

from alembic import op

from registry_core.repo.schema import METADATA

revision = "0001"
down_revision = None


def upgrade() -> None:
    METADATA.create_all(op.get_bind())
