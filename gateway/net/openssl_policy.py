"""Owns the part of the TLS policy that only OpenSSL's own configuration can express: groups and TLS 1.3 suites.

Why, and by how much it matters, stands in ``openssl.cnf`` beside this file.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

VARIABLE: Final = "OPENSSL_CONF"
CONFIGURATION: Final = Path(__file__).with_name("openssl.cnf")


def apply_openssl_policy(environ: MutableMapping[str, str] | None = None) -> bool:
    """Make this process, and those it starts, use the policy. Call it before anything imports ``ssl``.

    Returns whether it is in force: an administrator's own OPENSSL_CONF (FIPS, engines) stays untouched, and
    OpenSSL reads the variable only once, when it is loaded.
    """
    env = os.environ if environ is None else environ
    if env.get(VARIABLE):
        return env[VARIABLE] == str(CONFIGURATION)
    if "_ssl" in sys.modules or "_hashlib" in sys.modules:
        return False
    env[VARIABLE] = str(CONFIGURATION)
    return True


def without_openssl_policy(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for programs that are not ours: ``openssl req`` in a hook wants the system's own file."""
    return {name: value for name, value in environ.items() if (name, value) != (VARIABLE, str(CONFIGURATION))}
