"""Fuzzes the form decoder: python -m tests.fuzz.fuzz_form [SECONDS] (20). Exit status 0: nothing found.

Coverage-guided with atheris where it is installed; otherwise by mutating forms at random.
"""

import importlib.util
import random
import sys
import time
from types import ModuleType

from tests.support.form_reference import check_against_reference

MAX_BYTES = 600
SEEDS = [
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="x.sif"\r\nContent-Type: a/b\r\n\r\n\r\n--b--',
    b'p\r\n--b \t\r\nContent-Disposition: form-data; name=a; filename=""\r\n\r\n\r\n--bX\r\n--\r\n--b\rX\r\n--b--\r\ne',
    b'--b\r\nContent-Disposition: form-data; name="a\\"%22";\r\n filename="C:\\x\\\\y"\r\n\r\n\r\n--b-\r\n--b--',
]
MORSELS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"-",
    b"--",
    b"\r\n--b",
    b"\r\n--b--",
    b"--b\r\n",
    b" ",
    b"\t",
    b'"',
    b"\\",
]


def check_one(data: bytes) -> None:
    """One input: two bytes choose a boundary and the cuts, the rest is the body."""
    if len(data) < 2:
        return
    boundary = (b"b", b"-", b"bb", b"b-")[data[0] % 4]
    step = data[1] % 61 + 2
    body = data[2 : 2 + MAX_BYTES].replace(b"--b", b"--" + boundary)
    check_against_reference(body, boundary, list(range(step, len(body), step)))


def mutate(chance: random.Random) -> bytes:
    """A form with a few things wrong."""
    body = bytearray(chance.choice(SEEDS) * chance.randint(1, 2))
    for _ in range(chance.randint(0, 6)):
        at = chance.randint(0, len(body))
        match chance.randint(0, 3):
            case 0:
                del body[at : at + chance.randint(1, 4)]
            case 1:
                body[at:at] = chance.choice(MORSELS)
            case 2:
                body[at : at + 1] = chance.randbytes(1)
            case _:
                start = chance.randint(0, len(body))
                body[at:at] = body[start : start + chance.randint(1, 40)]
    return chance.randbytes(2) + bytes(body)


def fuzz_at_random(seconds: float, seed: int) -> int:
    """Mutate and check until the time is over; how many inputs were tried."""
    chance, count = random.Random(seed), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        check_one(mutate(chance))
        count += 1
    return count


def fuzz_with_atheris(atheris: ModuleType, seconds: int) -> None:
    """Never returns: libFuzzer ends the process, with a status other than 0 if something was found."""
    for name in ("gateway.upload.form", "gateway.upload.part_head", "gateway.upload.disposition"):
        module = importlib.import_module(name)
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == name:
                _instrument_methods(atheris, value)
    chance = random.Random(1)

    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 8 == 0:
            return mutate(chance)[:max_size]
        changed: bytes = atheris.Mutate(data, max_size)
        return changed

    arguments = [sys.argv[0], f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", "-verbosity=1"]
    atheris.Setup(arguments, check_one, custom_mutator=mutated)
    atheris.Fuzz()


def _instrument_methods(atheris: ModuleType, owner: type) -> None:
    for name, value in list(vars(owner).items()):
        if callable(value) and hasattr(value, "__code__"):
            setattr(owner, name, atheris.instrument_func(value))


def main() -> None:
    """Run for the seconds given."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    if importlib.util.find_spec("atheris"):
        fuzz_with_atheris(importlib.import_module("atheris"), seconds)
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"atheris is not installed: mutating at random for {seconds} s, seed {seed}")
    print(f"{fuzz_at_random(seconds, seed)} forms, nothing found")


if __name__ == "__main__":
    main()
