"""Tests of templates: the module's variables, in names and values."""

import pytest

from gateway.template import Variable, parse_template

VALUES = {"upload_field_name": "file1", "upload_file_name": "a.sif", "upload_file_md5": "0cc1"}

FILLED = {
    "$upload_field_name.path": "file1.path",
    "${upload_field_name}_path": "file1_path",
    "$upload_field_name": "file1",
    "": "",
    "text": "text",
    "[$upload_field_name][$upload_file_name]": "[file1][a.sif]",
    "$upload_field_name$upload_file_name": "file1a.sif",
    "$upload_content_type": "",
    "${upload_field_name}": "file1",
    "tést $upload_field_name": "tést file1",
}


@pytest.mark.parametrize(("text", "filled"), FILLED.items())
def test_a_template_is_filled_as_nginx_fills_it(text: str, filled: str) -> None:
    assert parse_template(text, aggregate=False).fill(VALUES) == filled


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha512", "crc32", "md5_uc", "sha512_uc"])
def test_digests_are_for_aggregate_fields_only(name: str) -> None:
    assert parse_template(f"$upload_file_{name}", aggregate=True).pieces == (Variable(f"upload_file_{name}"),)
    with pytest.raises(ValueError, match="aggregate_fields"):
        parse_template(f"$upload_file_{name}", aggregate=False)


def test_the_size_is_for_aggregate_fields_only() -> None:
    with pytest.raises(ValueError, match="last byte"):
        parse_template("$upload_file_size", aggregate=False)


@pytest.mark.parametrize(
    "text", ["$", "a$", "$-", "$$upload_field_name", "${upload_field_name", "${}", "$.path"]
)
def test_a_dollar_that_begins_no_variable_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="begins no variable"):
        parse_template(text, aggregate=True)


@pytest.mark.parametrize(
    "text", ["$upload_feild_name", "$upload_field_name_path", "$document_root", "$http_", "$uid"]
)
def test_an_unknown_variable_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="unknown variable"):
        parse_template(text, aggregate=True)


@pytest.mark.parametrize(
    "name", ["remote_addr", "request_id", "http_user_agent", "arg_token", "host", "args"]
)
def test_variables_of_the_request_are_known(name: str) -> None:
    assert parse_template(f"${name}", aggregate=False).variables == {name}
