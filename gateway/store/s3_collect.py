"""Owns the removal of bytes in S3 that no key names, with no lock that all machines could share.

Holders of unnamed digests are taken away first, then the keys are listed once more: a key that came in between gets
its holders back. Whoever placed it looks at the holders after it wrote the key, and so sees either the old ones,
brought back, or none, and then gives its own bytes. Bytes are removed last.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress

from gateway.errors import NotFound
from gateway.store.keys import check_key, digest_of
from gateway.store.s3_records import BLOBS, DIGESTS, OBJECTS, S3Records


def collect(records: S3Records, *, alive: Callable[[], set[str]], before: float, dry_run: bool) -> int:
    """Remove what is unnamed and was written before; returns how many bytes that (would) free.

    ``alive`` tells the uploads of this machine whose objects are not placed yet. Raises: S3Fault, StoreDown.
    """
    # In this order: what is an object now is, a moment later, alive or has a holder, or is left over.
    objects = {found.name: found.size for found in records.list(OBJECTS) if found.modified <= before}
    living = alive()
    holders, old = _holders(records, before)
    named = _named_digests(records)
    unnamed = {sha256: holders[sha256] for sha256 in old if sha256 not in named}
    if not dry_run:
        _bring_back(records, {sha256: key for sha256, key in named.items() if sha256 not in holders})
        unnamed = _take_away(records, unnamed)
        _drop_twins(records, {sha256: holders[sha256] for sha256 in old if sha256 not in unnamed}, objects)
    kept = living | {staged for sha256, many in holders.items() if sha256 not in unnamed for staged in many}
    garbage = {staged: size for staged, size in objects.items() if staged not in kept}
    if not dry_run:
        for staged in garbage:
            records.delete(OBJECTS + staged)
    return sum(garbage.values())


def _holders(records: S3Records, before: float) -> tuple[dict[str, list[str]], set[str]]:
    """Digest to objects, and the digests none of whose holders is younger."""
    holders: dict[str, list[str]] = defaultdict(list)
    young: set[str] = set()
    for found in records.list(DIGESTS):
        sha256, _, staged = found.name.partition("/")
        holders[sha256].append(staged)
        if found.modified > before:
            young.add(sha256)
    return {sha256: sorted(many) for sha256, many in holders.items()}, holders.keys() - young


def _named_digests(records: S3Records) -> dict[str, str]:
    """Digest to one of its keys."""
    named: dict[str, str] = {}
    for found in records.list(BLOBS):
        with suppress(NotFound):
            named[digest_of(found.name)] = check_key(found.name)
    return named


def _bring_back(records: S3Records, lost: Mapping[str, str]) -> None:
    """Keys whose digest has no holder: a collection died half-way. The key itself still tells the object."""
    for sha256, key in lost.items():
        said = records.read_key(key)
        if said is not None and records.size_of(OBJECTS + said.staged) is not None:
            records.add_holder(sha256, said.staged)


def _take_away(records: S3Records, unnamed: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Take the holders away, and give those back that got a key meanwhile; returns the others."""
    for sha256, many in unnamed.items():
        for staged in many:
            records.drop_holder(sha256, staged)
    named = _named_digests(records) if unnamed else {}
    for sha256 in unnamed.keys() & named.keys():
        for staged in unnamed[sha256]:
            records.add_holder(sha256, staged)
    return {sha256: many for sha256, many in unnamed.items() if sha256 not in named}


def _drop_twins(records: S3Records, named: dict[str, list[str]], objects: Mapping[str, int]) -> None:
    """Bytes that two uploads placed in the same moment: keep the first copy. ``named`` loses the others."""
    for sha256, many in named.items():
        if many[0] in objects:
            for staged in many[1:]:
                records.drop_holder(sha256, staged)
            del many[1:]
