"""Owns that whoever asks for a strange path writes no lines into the core's log."""

import json
import logging

from registry_core.server import JsonLines, PlainLines


def record(message: str) -> logging.LogRecord:
    error = ValueError(message)
    return logging.LogRecord("app", logging.ERROR, __file__, 1, "%s", (message,), (ValueError, error, None))


def test_a_json_line_is_one_object_whatever_was_asked_for() -> None:
    path = '/x"}\n{"level":"INFO","message":"forged'
    line = JsonLines().format(record(path))
    assert "\n" not in line
    said = json.loads(line)
    assert (said["message"], said["level"], said["logger"]) == (path, "ERROR", "core.app")
    assert "ValueError" in said["exception"]


def test_a_plain_line_begins_no_other() -> None:
    line = PlainLines("%(levelname)s %(message)s").format(record("/x\r\nINFO forged"))
    assert line.splitlines()[0] == r"ERROR /x\r\nINFO forged"
