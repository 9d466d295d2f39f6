"""Owns ``registry store``: moving all images from one kind of store to the other."""

import sys
from pathlib import Path
from typing import Final

import click

from gateway.store.opening import StoreKind, open_store, place_of
from registry_core.commands.frame import FAILED, WRONG_USAGE, load_settings, settings_options, told_failures
from registry_core.service.quota import human

_KINDS: Final = click.Choice(["disk", "s3"])


@click.group()
def store() -> None:
    """Where images are kept."""


@store.command()
@click.option("--from", "source", type=_KINDS, required=True, help="The store that has the images.")
@click.option("--to", "target", type=_KINDS, required=True, help="The store that shall have them.")
@click.option(
    "--trust-existing", is_flag=True, help="Of what the target has, compare the size, not the digest."
)
@settings_options
def migrate(
    *,
    source: StoreKind,
    target: StoreKind,
    trust_existing: bool,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Copy every image to the other store of the settings, and verify each by its digest: what is copied on both
    sides, what the target has already there. Damaged images of the target are replaced.

    The registry may serve meanwhile. When broken off, run it again: what is there is not copied twice, and what was
    verified is not read twice. Then set storage.kind, restart, and run it once more for what came in between. The
    source is left as it is. Exit 1 if images are damaged in the source.
    """
    from gateway.store.migrate import migrate as run  # noqa: PLC0415 – only this command copies
    from gateway.store.verified import Verified  # noqa: PLC0415

    if source == target:
        click.echo(f"registry: --from and --to are both {source}", err=True)
        sys.exit(WRONG_USAGE)
    settings = load_settings(config, data_dir)
    with told_failures():
        done = run(
            open_store(settings, kind=source),
            open_store(settings, kind=target),
            trust_existing=trust_existing,
            verified=Verified(settings.data_dir / "migrate" / f"verified-{place_of(settings, target)}"),
            tell=click.echo,
        )
    for key in done.damaged:
        click.echo(f"damaged  {key}")
    click.echo(
        f"{done.copied} images copied ({human(done.copied_bytes)}), {done.linked} more names for them,"
        f" {done.present} were there, {done.repaired} were there but damaged and are replaced,"
        f" {done.vanished} were deleted meanwhile, {len(done.damaged)} damaged.",
        err=True,
    )
    if done.damaged:
        sys.exit(FAILED)
