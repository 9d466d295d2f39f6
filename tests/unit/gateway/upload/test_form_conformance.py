"""The cases of the PyPI package multipart-form-data-conformance, each of them, cut at every byte."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from multipart_form_data_conformance import get_tests_dir

from gateway.errors import ClientError
from gateway.upload.disposition import parse_boundary
from gateway.upload.form import FormLimits
from tests.support.forms import ReadPart, read_form

CASES = sorted(path.parent for path in Path(get_tests_dir()).glob("*/*/test.json"))

# Cases that the package itself calls optional, where a strict parser may or should refuse.
REFUSED_HERE = {
    "022-filename-star-encoding": "a lone filename* is refused, as RFC 7578 forbids it",
    "061-lf-only-lenient": "lines must end in CR LF",
    "062-mixed-endings": "lines must end in CR LF",
    "208-duplicate-headers": "two Content-Dispositions are refused",
    "210-control-chars-in-name": "control characters in headers are refused",
}


def test_the_package_has_its_cases() -> None:
    assert len(CASES) >= 50


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_conformance_case(case: Path) -> None:
    told: dict[str, Any] = json.loads((case / "test.json").read_text())
    headers = json.loads((case / "headers.json").read_text())
    body = (case / "input.raw").read_bytes()
    expects_refusal = not told["expected"]["valid"] or case.name in REFUSED_HERE
    if case.name in REFUSED_HERE:
        assert "optional" in told["tags"]
    cuts = [[], list(range(1, len(body))), *([cut] for cut in range(1, min(len(body), 600)))]
    for places in cuts:
        if expects_refusal:
            with pytest.raises(ClientError):
                _read(headers, body, places)
        else:
            parts = _read(headers, body, places)
            assert len(parts) == len(told["expected"]["parts"])
            for part, expected in zip(parts, told["expected"]["parts"], strict=True):
                _check(part, expected)


def _read(headers: dict[str, str], body: bytes, cuts: list[int]) -> list[ReadPart]:
    boundary = parse_boundary(headers["content-type"])
    return read_form(body, boundary, cuts=cuts, limits=FormLimits())


def _check(part: ReadPart, expected: dict[str, Any]) -> None:
    begin = part.begin
    found = (begin.name, begin.filename_as_sent, begin.content_type)
    assert found == (expected["name"], expected["filename"], expected["content_type"])
    assert len(part.data) == expected["body_size"]
    if "body_text" in expected:
        assert part.data == expected["body_text"].encode()
    if "body_base64" in expected:
        assert part.data == base64.b64decode(expected["body_base64"])
    if "body_sha256" in expected:
        assert hashlib.sha256(part.data).hexdigest() == expected["body_sha256"]
    if "headers" in expected:
        assert dict(begin.headers) == expected["headers"]
