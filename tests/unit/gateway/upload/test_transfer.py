"""Owns what is read from the address of a library push."""

import pytest

from gateway.upload.transfer import legacy_image_id


@pytest.mark.parametrize(
    "path", ["/v1/imagefile/17", "/v1/imagefile/17/", "//v1/imagefile/17", "/v1//imagefile//17"]
)
def test_an_old_push_names_its_image_however_many_slashes_it_sends(path: str) -> None:
    assert legacy_image_id(path) == "17"
