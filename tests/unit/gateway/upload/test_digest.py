"""Tests of the digests of a route's file."""

import hashlib

from gateway.template import DIGESTS
from gateway.upload.digest import Digests


def test_all_digests_of_the_module_come_from_one_pass() -> None:
    digests = Digests(DIGESTS)
    for piece in (b"12345", memoryview(b"6789"), b""):
        digests.update(piece)
    assert digests.values() == {
        "md5": "25f9e794323b453885f5181f1b624d0b",
        "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
        "sha256": hashlib.sha256(b"123456789").hexdigest(),
        "sha512": hashlib.sha512(b"123456789").hexdigest(),
        "crc32": "cbf43926",
    }


def test_the_crc_has_eight_digits_also_when_it_is_small() -> None:
    assert Digests(["crc32"]).values() == {"crc32": "00000000"}


def test_nothing_is_computed_that_nobody_asked_for() -> None:
    digests = Digests([])
    digests.update(b"x")
    assert digests.values() == {}
