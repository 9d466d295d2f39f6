"""Owns SIF images made of bytes: small, exact, without any tool."""

import json
import struct
from collections.abc import Mapping

_HEADER = struct.Struct("<32s10s3s3s16sqqqqqqqq")
_DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
_ARCH = {"386": b"01", "amd64": b"02", "arm64": b"04"}
_DATA_AT = 32_768


def build_sif(
    *,
    arch: str = "amd64",
    definition: str = "",
    labels: Mapping[str, str] | None = None,
    fingerprint: str = "",
    partition: bytes = b"not really squashfs",
    file_system: int = 1,
    created: int = 1_790_000_000,
) -> bytes:
    """A well-formed image with a partition, and what else is asked for."""
    objects: list[tuple[int, bytes, bytes]] = []
    if definition:
        objects.append((0x4001, definition.encode(), b""))
    if labels is not None:
        objects.append((0x4003, json.dumps(dict(labels)).encode(), b""))
    extra = struct.pack("<ii", file_system, 2) + _ARCH[arch] + b"\0"
    objects.append((0x4004, partition, extra))
    if fingerprint:
        objects.append((0x4005, b"signature", struct.pack("<i", 5) + bytes.fromhex(fingerprint)))
    table, data, at = b"", b"", _DATA_AT
    for number, (kind, content, more) in enumerate(objects, 1):
        table += _DESCRIPTOR.pack(
            kind, True, number, 1, 0, at, len(content), len(content), created, created, 0, 0, b"", more
        )
        data += content
        at += len(content)
    header = _HEADER.pack(
        b"#!/usr/bin/env run-singularity\n",
        b"SIF_MAGIC\0",
        b"01\0",
        _ARCH[arch] + b"\0",
        bytes(16),
        created,
        created,
        48 - len(objects),
        len(objects),
        4096,
        len(table),
        _DATA_AT,
        len(data),
    )
    return header.ljust(4096, b"\0") + table.ljust(_DATA_AT - 4096, b"\0") + data
