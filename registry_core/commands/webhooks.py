"""Owns ``registry webhook``."""

import click

from registry_core.commands.frame import MACHINE, print_table, with_registry
from registry_core.registry import Registry
from registry_core.service import webhooks


@click.group()
def webhook() -> None:
    """Who is told of pushes, deletions, and pushes for which a quota left no room."""


@webhook.command("add")
@click.argument("url")
@click.option("--collection", default="", metavar="ENTITY/COLLECTION", help="Only this one; else all.")
@click.option(
    "--event", "events", multiple=True, type=click.Choice(webhooks.EVENTS), help="Only these; else all."
)
@with_registry
def add_webhook(registry: Registry, *, url: str, collection: str, events: tuple[str, ...]) -> None:
    """Make a webhook and print its secret, with which deliveries are signed, alone on standard output."""
    hook_id, secret = webhooks.add(
        registry, MACHINE, url=url, collection=collection, events=events or webhooks.EVENTS
    )
    click.echo(secret)
    click.echo(f"Webhook {hook_id} was made.", err=True)


@webhook.command("list")
@with_registry
def list_webhooks(registry: Registry) -> None:
    """All webhooks."""
    rows = [
        (str(one.id), one.url, one.events, one.collection or "(all)")
        for one in webhooks.all_hooks(registry, MACHINE)
    ]
    print_table(("ID", "URL", "EVENTS", "COLLECTION"), rows)


@webhook.command("remove")
@click.argument("hook_id", metavar="ID", type=int)
@with_registry
def remove_webhook(registry: Registry, *, hook_id: int) -> None:
    """End a webhook."""
    webhooks.remove(registry, MACHINE, hook_id)
