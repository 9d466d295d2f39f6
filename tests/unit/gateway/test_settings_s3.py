"""Owns what an S3 endpoint, a bucket and the files of keys may say."""

from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.settings import S3
from gateway.settings_source import load


def s3(**environ: str) -> S3:
    return load(environ=environ).settings.storage.s3


def refusal(**environ: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(environ=environ)
    return "; ".join(f"{problem.where}: {problem.what}" for problem in refused.value.problems)


@pytest.mark.parametrize(
    ("said", "endpoint", "ssl"),
    [
        ("minio:9000", "minio:9000", False),
        ("http://minio:9000", "minio:9000", False),
        ("https://s3.amazonaws.com/", "s3.amazonaws.com", True),
        (" minio:9000/ ", "minio:9000", False),
        ("HTTPS://[::1]:8333", "[::1]:8333", True),
        ("seaweed_fs:8333", "seaweed_fs:8333", False),
    ],
)
def test_an_endpoint_may_come_with_a_scheme(said: str, endpoint: str, ssl: bool) -> None:
    found = s3(MINIO_SERVER=said)
    assert (found.endpoint, found.ssl) == (endpoint, ssl)


def test_the_scheme_of_the_external_endpoint_counts_too() -> None:
    found = s3(MINIO_SERVER="minio:9000", MINIO_EXTERNAL_SERVER="https://s3.example.org/")
    assert (found.external_endpoint, found.external_ssl, found.ssl) == ("s3.example.org", "on", False)
    assert s3(MINIO_EXTERNAL_SERVER="").external_ssl == "same"


def test_a_scheme_and_a_setting_that_agree_are_fine() -> None:
    assert s3(MINIO_SERVER="https://minio:9000", MINIO_SSL="True").ssl
    assert not s3(MINIO_SERVER="http://minio:9000", MINIO_SSL="False").ssl


def test_a_scheme_and_a_setting_that_disagree_are_told_and_no_secret_with_them() -> None:
    said = refusal(MINIO_SERVER="https://minio:9000", MINIO_SSL="False", MINIO_ROOT_PASSWORD="hush")
    assert "endpoint begins with https://, and ssl is False" in said
    assert "hush" not in said
    said = refusal(MINIO_EXTERNAL_SERVER="http://s3:9000", GATEWAY_STORAGE__S3__EXTERNAL_SSL="on")
    assert "external_endpoint begins with http://, and external_ssl is on" in said
    assert "storage.s3.ssl: " in refusal(MINIO_SERVER="https://minio:9000", MINIO_SSL="perhaps")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("minio:9000/bucket", "without a path"),
        ("https://minio:9000//", "without a path"),
        ("mi nio:9000", "must read HOST:PORT"),
        ("minio:99999", "a port from 1"),
        ("minio:0", "a port from 1"),
        ("minio:", "must read HOST:PORT"),
        ("ftp://minio", "begins with ftp://"),
        ("", "must read HOST:PORT"),
        ("-minio", "must read HOST:PORT"),
    ],
)
def test_what_is_no_endpoint_is_told_in_a_sentence(said: str, why: str) -> None:
    assert why in refusal(MINIO_SERVER=said)


@pytest.mark.parametrize("name", ["images", "a-b.c1", "123", "x" * 63])
def test_names_that_s3_takes_for_buckets_are_taken(name: str) -> None:
    assert s3(MINIO_BUCKET=name).bucket == name


@pytest.mark.parametrize(
    "name", ["Bad_Bucket!", "ab", "x" * 64, "-ab", "ab.", "a..b", "192.168.0.1", "Images", "", "a/b"]
)
def test_names_that_s3_refuses_are_refused_with_its_rules(name: str) -> None:
    assert "lower-case letters, digits" in refusal(MINIO_BUCKET=name)


def test_every_key_may_come_from_a_file(tmp_path: Path) -> None:
    names = ("access_key", "secret_key", "previous_access_key", "previous_secret_key")
    for name in names:
        (tmp_path / name).write_text(f"{name} in a file\n")
    found = s3(**{f"GATEWAY_STORAGE__S3__{name.upper()}_FILE": str(tmp_path / name) for name in names})
    for name in names:
        assert getattr(found, name).get_secret_value() == f"{name} in a file"
    (tmp_path / "previous_secret_key").unlink()
    assert "previous_secret_key_file" in refusal(
        GATEWAY_STORAGE__S3__PREVIOUS_SECRET_KEY_FILE=str(tmp_path / "previous_secret_key")
    )
