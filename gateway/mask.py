"""Owns which parts of a target give access: whoever reads a log, or watches, must not be able to pull by it."""

import re
from typing import Final

from gateway.contract import BLOB_PREFIX, TRANSFER_PREFIX, UPLOAD_STATUS_PREFIX

MASK: Final = "***"
_SECRET_PATHS: Final = (TRANSFER_PREFIX, BLOB_PREFIX, UPLOAD_STATUS_PREFIX, "/uploads/")
_SECRET_QUERY: Final = re.compile(
    r"(?i)((?:^|&)[^&=]*(?:token|signature|ticket|password|secret|credential|api_?key|session)[^&=]*=)[^&]*"
)
# Bounded, or a long text without any would take its square.
_PASSWORD: Final = re.compile(r"([^\s/@:'\"]{0,128}:)[^\s/@'\"]{1,256}@")


def mask_password(text: str) -> str:
    """A text with the password of every NAME:PASSWORD@HOST in it replaced."""
    return _PASSWORD.sub(rf"\1{MASK}@", text)


def mask_target(target: str) -> str:
    """The target with everything that gives access replaced."""
    path, mark, query = target.partition("?")
    for prefix in _SECRET_PATHS:
        if path.startswith(prefix) and len(path) > len(prefix):
            path = prefix + MASK
            break
    return path + mark + (_SECRET_QUERY.sub(rf"\1{MASK}", query) if query else "")
