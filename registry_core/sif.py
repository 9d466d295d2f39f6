"""Owns reading SIF images: the header's architecture, and the objects that the descriptors list.

Pure: ``read`` gets a function that reads a range of the file. The layout is that of SIF version 1: a header of 128
bytes, then packed little-endian descriptors of 585 bytes each.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

type ReadRange = Callable[[int, int], bytes]

HEADER_BYTES: Final = 128
_HEADER: Final = struct.Struct("<32s10s3s3s16sqqqqqqqq")
_MAGIC: Final = b"SIF_MAGIC\x00"
_DESCRIPTOR: Final = struct.Struct("<i?IIIqqqqqqq128s384s")
# More than any real image has, and a bound on what a hostile header can make us read.
_MOST_DESCRIPTORS: Final = 1024
_MOST_TEXT_BYTES: Final = 256 * 1024
_YEAR_10000: Final = 253_402_300_800  # what a header says may be any number, and is shown as a date

_ARCHES: Final = {
    "01": "386", "02": "amd64", "03": "arm", "04": "arm64", "05": "ppc64", "06": "ppc64le", "07": "mips",
    "08": "mipsle", "09": "mips64", "10": "mips64le", "11": "s390x", "12": "riscv64",
}  # fmt: skip
_KINDS: Final = {
    0x4001: "definition file", 0x4002: "environment", 0x4003: "labels", 0x4004: "partition", 0x4005: "signature",
    0x4006: "JSON", 0x4007: "data", 0x4008: "cryptographic message", 0x4009: "SBOM", 0x400A: "OCI root index",
    0x400B: "OCI blob",
}  # fmt: skip
_FILE_SYSTEMS: Final = {1: "squashfs", 2: "ext3", 3: "archive", 4: "raw", 5: "encrypted squashfs"}
_DEFINITION, _LABELS, _PARTITION, _SIGNATURE = 0x4001, 0x4003, 0x4004, 0x4005
_ENTITY: Final = slice(4, 24)  # of a signature's extra: after the hash type, 20 bytes of fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class SifObject:
    """One object within an image. ``detail`` is a partition's file system or a signature's fingerprint."""

    id: int
    kind: str
    name: str
    size: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SifHead:
    """What the registry keeps of an image. ``fingerprints`` are those of its signatures, upper-case hex."""

    arch: str
    signed: bool
    encrypted: bool
    fingerprints: tuple[str, ...]
    objects: tuple[SifObject, ...]
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SifTexts:
    """What people want to read in an image: its definition file and its labels."""

    definition: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Descriptor:
    datatype: int
    id: int
    offset: int
    size: int
    name: str
    extra: bytes


def read_head(read: ReadRange) -> SifHead | None:
    """The head of a SIF image, or None if the file is none (any file may be stored)."""
    header = read(0, HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return None
    fields = _HEADER.unpack(header)
    if fields[1] != _MAGIC:
        return None
    descriptors = _descriptors(read, total=fields[8], offset=fields[9])
    prints = [d.extra[_ENTITY].hex().upper() for d in descriptors if d.datatype == _SIGNATURE]
    objects = tuple(_object(descriptor) for descriptor in descriptors)
    return SifHead(
        arch=_ARCHES.get(_text(fields[3]), ""),
        signed=bool(prints),
        encrypted=any(item.detail == _FILE_SYSTEMS[5] for item in objects),
        fingerprints=tuple(dict.fromkeys(text for text in prints if text.strip("0"))),
        objects=objects,
        created=fields[5] if 0 < fields[5] < _YEAR_10000 else 0,
    )


def read_texts(read: ReadRange) -> SifTexts:
    """The texts in an image; empty where there are none."""
    header = read(0, HEADER_BYTES)
    if len(header) < HEADER_BYTES or _HEADER.unpack(header)[1] != _MAGIC:
        return SifTexts()
    fields = _HEADER.unpack(header)
    definition, labels = "", ""
    for descriptor in _descriptors(read, total=fields[8], offset=fields[9]):
        if descriptor.datatype == _DEFINITION and not definition:
            definition = _content(read, descriptor)
        elif descriptor.datatype == _LABELS and not labels:
            labels = _content(read, descriptor)
    return SifTexts(definition=definition, labels=_labels(labels))


def _descriptors(read: ReadRange, *, total: int, offset: int) -> list[_Descriptor]:
    if not 0 < total <= _MOST_DESCRIPTORS or offset < HEADER_BYTES:
        return []
    table = read(offset, total * _DESCRIPTOR.size)
    whole = len(table) - len(table) % _DESCRIPTOR.size
    return [
        _Descriptor(
            datatype=fields[0],
            id=fields[2],
            offset=fields[5],
            size=fields[6],
            name=_text(fields[12]),
            extra=fields[13],
        )
        for fields in _DESCRIPTOR.iter_unpack(table[:whole])
        if fields[1]
    ]


def _object(descriptor: _Descriptor) -> SifObject:
    detail = ""
    if descriptor.datatype == _PARTITION:
        detail = _FILE_SYSTEMS.get(int.from_bytes(descriptor.extra[:4], "little"), "")
    elif descriptor.datatype == _SIGNATURE:
        detail = descriptor.extra[_ENTITY].hex().upper()
    return SifObject(
        id=descriptor.id,
        kind=_KINDS.get(descriptor.datatype, "unknown"),
        name=descriptor.name,
        size=max(0, descriptor.size),
        detail=detail,
    )


def _content(read: ReadRange, descriptor: _Descriptor) -> str:
    if descriptor.offset < HEADER_BYTES or descriptor.size <= 0:
        return ""
    return read(descriptor.offset, min(descriptor.size, _MOST_TEXT_BYTES)).decode("utf-8", "replace")


def _labels(text: str) -> tuple[tuple[str, str], ...]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return ()
    if not isinstance(value, dict):
        return ()
    flat = value.get("system-partition", value)  # newer tools group the labels by partition
    if not isinstance(flat, dict):
        return ()
    return tuple((_whole(name), _whole(item)) for name, item in flat.items() if isinstance(item, str))


def _whole(text: str) -> str:
    """JSON may hold halves of characters, which nothing can send or store."""
    return text.encode("utf-8", "replace").decode()


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
