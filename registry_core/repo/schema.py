"""Owns the tables. A change here needs a migration in ``versions/`` (a test compares the two)."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

# Equal names on every database, so that migrations can speak of them.
METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def _ref(
    name: str, target: str, *, on_delete: str, nullable: bool = False, index: bool = False
) -> Column[int]:
    return Column(name, ForeignKey(target, ondelete=on_delete), nullable=nullable, index=index)


def _text(name: str, length: int = 0) -> Column[str]:
    return Column(name, String(length) if length else Text(), nullable=False, server_default="")


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean(), nullable=False)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger(), nullable=False, server_default="0")


def _time(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger(), nullable=nullable)


users = Table(
    "users",
    METADATA,
    _id(),
    Column("name", String(128), nullable=False, unique=True),
    _text("password"),
    _flag("admin"),
    _flag("robot"),
    _flag("disabled"),
    _text("email", 320),
    _text("real_name", 256),
    _time("created_at"),
    _time("last_login_at", nullable=True),
    sqlite_autoincrement=True,
)

# Accounts of other sign-in services that belong to a user here.
identities = Table(
    "identities",
    METADATA,
    _id(),
    _ref("user_id", "users.id", on_delete="CASCADE", index=True),
    Column("issuer", String(512), nullable=False),
    Column("subject", String(512), nullable=False),
    _time("created_at"),
    UniqueConstraint("issuer", "subject"),
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    METADATA,
    _id(),
    _ref("user_id", "users.id", on_delete="CASCADE", index=True),
    _text("label", 128),
    Column("scope", String(8), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    _text("hint", 16),
    _time("created_at"),
    _time("expires_at", nullable=True),
    _time("last_used_at", nullable=True),
    CheckConstraint("scope IN ('pull', 'push', 'admin')", name="scope"),
    sqlite_autoincrement=True,
)

sessions = Table(
    "sessions",
    METADATA,
    _id(),
    Column("hash", String(64), nullable=False, unique=True),
    _ref("user_id", "users.id", on_delete="CASCADE", index=True),
    Column("csrf", String(64), nullable=False),
    _text("address", 64),
    _time("created_at"),
    _time("expires_at"),
    sqlite_autoincrement=True,
)

# Failed sign-ins by account and by address, shared by all processes.
throttles = Table(
    "throttles",
    METADATA,
    Column("key", String(200), primary_key=True),
    _count("failures"),
    _time("until"),
)

entities = Table(
    "entities",
    METADATA,
    _id(),
    Column("name", String(128), nullable=False, unique=True),
    _ref("owner_id", "users.id", on_delete="SET NULL", nullable=True, index=True),
    _text("description"),
    _flag("default_private"),
    _count("quota_bytes"),
    _text("created_by", 128),
    _time("created_at"),
    _time("updated_at"),
    sqlite_autoincrement=True,
)

collections = Table(
    "collections",
    METADATA,
    _id(),
    _ref("entity_id", "entities.id", on_delete="CASCADE"),
    Column("name", String(128), nullable=False),
    _ref("owner_id", "users.id", on_delete="SET NULL", nullable=True, index=True),
    _text("description"),
    _flag("private"),
    _count("quota_bytes"),
    _text("created_by", 128),
    _time("created_at"),
    _time("updated_at"),
    UniqueConstraint("entity_id", "name"),
    sqlite_autoincrement=True,
)

members = Table(
    "members",
    METADATA,
    Column("collection_id", ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("role", String(16), nullable=False),
    CheckConstraint("role IN ('contributor', 'reader')", name="role"),
)

containers = Table(
    "containers",
    METADATA,
    _id(),
    _ref("collection_id", "collections.id", on_delete="CASCADE"),
    Column("name", String(128), nullable=False),
    _text("description"),
    _flag("read_only"),
    _count("downloads"),
    _text("created_by", 128),
    _time("created_at"),
    _time("updated_at"),
    UniqueConstraint("collection_id", "name"),
    sqlite_autoincrement=True,
)

images = Table(
    "images",
    METADATA,
    _id(),
    _ref("container_id", "containers.id", on_delete="CASCADE"),
    Column("sha256", String(64), nullable=False, index=True),
    _count("size"),
    _flag("uploaded"),
    _text("arch", 32),
    _text("description"),
    Column("signed", Boolean(), nullable=True),
    _text("fingerprints"),
    _count("downloads"),
    _text("created_by", 128),
    _time("created_at"),
    _time("updated_at"),
    UniqueConstraint("container_id", "sha256"),
    sqlite_autoincrement=True,
)

tags = Table(
    "tags",
    METADATA,
    _id(),
    _ref("container_id", "containers.id", on_delete="CASCADE"),
    Column("name", String(128), nullable=False),
    Column("arch", String(32), nullable=False),
    _ref("image_id", "images.id", on_delete="CASCADE", index=True),
    _flag("frozen"),
    _text("updated_by", 128),
    _time("updated_at"),
    UniqueConstraint("container_id", "name", "arch"),
    sqlite_autoincrement=True,
)

tag_moves = Table(
    "tag_moves",
    METADATA,
    _id(),
    _ref("container_id", "containers.id", on_delete="CASCADE", index=True),
    Column("name", String(128), nullable=False),
    Column("arch", String(32), nullable=False),
    _text("sha256", 64),
    _text("by", 128),
    _time("at"),
    sqlite_autoincrement=True,
)

uploads = Table(
    "uploads",
    METADATA,
    Column("id", String(64), primary_key=True),
    _ref("image_id", "images.id", on_delete="CASCADE", index=True),
    _ref("user_id", "users.id", on_delete="CASCADE"),
    _count("size"),
    _count("part_size"),
    _time("created_at"),
)

# The answer that each ticket's commit got, so that a repeated commit gets the same.
commits = Table(
    "commits",
    METADATA,
    Column("ticket", String(64), primary_key=True),
    Column("answer", Text(), nullable=False),
    Column("at", BigInteger(), nullable=False, index=True),
)

trash = Table(
    "trash",
    METADATA,
    _id(),
    Column("key", String(512), nullable=False),
    Column("sha256", String(64), nullable=False),
    _count("size"),
    _text("deleted_by", 128),
    Column("deleted_at", BigInteger(), nullable=False, index=True),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    METADATA,
    _id(),
    Column("at", BigInteger(), nullable=False, index=True),
    _text("actor", 128),
    _text("action", 64),
    _text("object"),
    _text("detail"),
    _text("address", 64),
    sqlite_autoincrement=True,
)

webhooks = Table(
    "webhooks",
    METADATA,
    _id(),
    _ref("collection_id", "collections.id", on_delete="CASCADE", nullable=True, index=True),
    Column("url", Text(), nullable=False),
    Column("secret", Text(), nullable=False),
    _text("events"),
    _text("created_by", 128),
    _time("created_at"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    METADATA,
    _id(),
    _ref("webhook_id", "webhooks.id", on_delete="CASCADE", index=True),
    Column("event", String(32), nullable=False),
    Column("body", Text(), nullable=False),
    _count("attempts"),
    Column("due_at", BigInteger(), nullable=True, index=True),
    _text("outcome"),
    _time("created_at"),
    sqlite_autoincrement=True,
)

# Home page and clean-up of pushes that never ended both ask for the newest or oldest of one kind.
Index("ix_images_uploaded_created_at", images.c.uploaded, images.c.created_at)
