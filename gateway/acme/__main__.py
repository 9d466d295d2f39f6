"""Owns one turn of certificate care in a process of its own: the plan on standard input, how it went on output.

The ACME library takes a second of processor time to load and 30 MiB to keep; the gateway needs it for seconds in
a month, so it never loads it. A turn that hangs or dies takes nothing with it.
"""

import json
import sys

from gateway.acme.plan import AcmePlan
from gateway.acme.turn import take_turn


def main() -> int:
    """Read a plan, take a turn, write the outcome as JSON."""
    turn = take_turn(AcmePlan.from_json(sys.stdin.read()))
    json.dump(turn.to_dict(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
