"""Owns what is read from SIF images, whole, cut and hostile."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_core.sif import SifTexts, read_head, read_texts

_HEADER = struct.Struct("<32s10s3s3s16sqqqqqqqq")
_DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
FINGERPRINT = bytes(range(20))


def descriptor(
    number: int, datatype: int, offset: int, content: bytes, name: str, extra: bytes = b""
) -> bytes:
    return _DESCRIPTOR.pack(
        datatype, True, number, 1, 0, offset, len(content), len(content), 0, 0, 0, 0, name.encode(), extra
    )


def make_image(*, arch: bytes = b"04\0", total: int | None = None, objects_at: int = 128) -> bytes:
    contents = [
        (0x4001, b"Bootstrap: docker\nFrom: alpine\n", "Singularity.def", b""),
        (0x4003, json.dumps({"org.label-schema.version": "7"}).encode(), "labels", b""),
        (0x4004, b"squash" * 10, "root", struct.pack("<ii", 1, 2) + arch),
        (0x4005, b"-----PGP", "signature", struct.pack("<i", 1) + FINGERPRINT),
    ]
    table, data = b"", b""
    start = 128 + len(contents) * _DESCRIPTOR.size
    for number, (datatype, content, name, extra) in enumerate(contents, 1):
        table += descriptor(number, datatype, start + len(data), content, name, extra)
        data += content
    count = len(contents) if total is None else total
    header = _HEADER.pack(
        b"#!/usr/bin/env run-singularity\n", b"SIF_MAGIC\0", b"01\0", arch, bytes(16),
        1_700_000_000, 0, 0, count, objects_at, len(table), start, len(data),
    )  # fmt: skip
    return header + table + data


def reader(image: bytes):  # type: ignore[no-untyped-def] # a lambda with a name
    return lambda offset, length: image[max(0, offset) : max(0, offset) + max(0, length)]


def test_the_head_tells_architecture_signatures_and_objects() -> None:
    head = read_head(reader(make_image()))
    assert head is not None
    assert (head.arch, head.signed, head.encrypted) == ("arm64", True, False)
    assert head.fingerprints == (FINGERPRINT.hex().upper(),)
    assert [item.kind for item in head.objects] == ["definition file", "labels", "partition", "signature"]
    assert head.objects[2].detail == "squashfs"
    assert head.created == 1_700_000_000


def test_the_texts_are_definition_and_labels() -> None:
    texts = read_texts(reader(make_image()))
    assert texts.definition.startswith("Bootstrap: docker")
    assert texts.labels == (("org.label-schema.version", "7"),)


@pytest.mark.parametrize("content", [b"", b"x" * 127, b"x" * 500, make_image()[:100]])
def test_what_is_no_image_has_no_head(content: bytes) -> None:
    assert read_head(reader(content)) is None
    assert read_texts(reader(content)) == SifTexts()


@pytest.mark.parametrize("total", [-1, 0, 1025, 2**62])
def test_a_hostile_count_reads_nothing(total: int) -> None:
    head = read_head(reader(make_image(total=total)))
    assert head is not None
    assert head.objects == ()


@given(st.integers(0, len(make_image())), st.integers(0, len(make_image()) - 1), st.integers(0, 255))
def test_no_damage_breaks_the_reader(length: int, position: int, value: int) -> None:
    image = bytearray(make_image())
    image[position] = value
    read_head(reader(bytes(image[:length])))
    read_texts(reader(bytes(image[:length])))
