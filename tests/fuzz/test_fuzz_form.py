"""A bounded run of the fuzz target, so that every test run has one."""

import random

from tests.fuzz.fuzz_form import check_one, mutate


def test_a_thousand_broken_forms_are_read_as_the_reference_reads_them() -> None:
    chance = random.Random(20260101)
    for _ in range(1000):
        check_one(mutate(chance))
