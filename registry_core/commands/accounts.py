"""Owns ``registry user`` and ``registry token``."""

import click

from registry_core.commands.frame import COMMAND_LINE, print_table, read_password, with_registry
from registry_core.registry import Registry
from registry_core.service import accounts
from registry_core.wire import rfc3339


def _when(at: int | None, *, never: str = "never") -> str:
    return never if at is None else rfc3339(at)


@click.group()
def user() -> None:
    """Accounts."""


@user.command("add")
@click.argument("name")
@click.option("--admin", is_flag=True, help="May administer the registry.")
@click.option("--robot", is_flag=True, help="Has no password; works by tokens only.")
@click.option("--email", default="")
@click.option("--real-name", default="")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@with_registry
def add_user(
    registry: Registry,
    *,
    name: str,
    admin: bool,
    robot: bool,
    email: str,
    real_name: str,
    password_stdin: bool,
) -> None:
    """Make an account and the entity of the same name."""
    password = None if robot else read_password(from_stdin=password_stdin)
    made = accounts.add_user(
        registry,
        name=name,
        password=password,
        admin=admin,
        robot=robot,
        email=email,
        real_name=real_name,
        by=COMMAND_LINE,
    )
    click.echo(f"User {made.name} was made.", err=True)


@user.command("list")
@with_registry
def list_users(registry: Registry) -> None:
    """All accounts."""
    rows = [
        (
            one.name,
            "admin" if one.admin else "robot" if one.robot else "user",
            "disabled" if one.disabled else "active",
            rfc3339(one.created_at),
            _when(one.last_login_at),
        )
        for one in accounts.all_users(registry)
    ]
    print_table(("NAME", "KIND", "STATE", "MADE", "LAST SIGN-IN"), rows)


@user.command("password")
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@with_registry
def set_password(registry: Registry, *, name: str, password_stdin: bool) -> None:
    """Set a new password; the user's browsers are signed out."""
    accounts.find_user(registry, name)
    accounts.set_password(
        registry, name=name, password=read_password(from_stdin=password_stdin), by=COMMAND_LINE
    )


@user.command("change")
@click.argument("name")
@click.option("--admin/--no-admin", default=None, help="May administer the registry, or not.")
@click.option("--disable/--enable", "disabled", default=None, help="Lock the account, or open it again.")
@with_registry
def change_user(registry: Registry, *, name: str, admin: bool | None, disabled: bool | None) -> None:
    """Change what an account may do."""
    accounts.change_user(registry, name=name, admin=admin, disabled=disabled, by=COMMAND_LINE)


@user.command("remove")
@click.argument("name")
@with_registry
def remove_user(registry: Registry, *, name: str) -> None:
    """Delete an account and its tokens. Its images stay."""
    accounts.remove_user(registry, name=name, by=COMMAND_LINE)


@click.group()
def token() -> None:
    """Access tokens."""


@token.command("create")
@click.argument("user_name", metavar="USER")
@click.option("--scope", type=click.Choice(["pull", "push", "admin"]), default="push", show_default=True)
@click.option("--expires", "days", type=click.FloatRange(0, min_open=True), help="Days until it expires.")
@click.option("--label", default="", help="What it is for.")
@with_registry
def create_token(registry: Registry, *, user_name: str, scope: str, days: float | None, label: str) -> None:
    """Make a token and print it, alone, on standard output. It cannot be shown again."""
    made = accounts.create_token(
        registry,
        user=accounts.find_user(registry, user_name),
        scope=scope,
        days=days,
        label=label,
        by=COMMAND_LINE,
    )
    click.echo(made.secret)
    click.echo(f"Token {made.id}, scope {made.scope}, expires {_when(made.expires_at)}.", err=True)


@token.command("revoke")
@click.argument("token_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@with_registry
def revoke_token(registry: Registry, *, token_id: int) -> None:
    """End a token. A running server may believe it for two more seconds."""
    accounts.revoke_token(registry, token_id, by=COMMAND_LINE)


@token.command("list")
@click.argument("user_name", metavar="USER")
@with_registry
def list_tokens(registry: Registry, *, user_name: str) -> None:
    """A user's tokens, by their first characters."""
    rows = [
        (
            str(one.id),
            f"{one.hint}…",
            one.scope,
            one.label,
            rfc3339(one.created_at),
            _when(one.expires_at),
            _when(one.last_used_at),
        )
        for one in accounts.tokens_of(registry, user_name)
    ]
    print_table(("ID", "TOKEN", "SCOPE", "LABEL", "MADE", "EXPIRES", "LAST USED"), rows)
