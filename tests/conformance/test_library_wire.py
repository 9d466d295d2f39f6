"""Owns what old, odd and hostile library clients send, request by request."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.product import Product
from tests.support.sif import make_small_sif
from tests.support.wire_push import WireClient

MIB = 1 << 20

type Join = Callable[[str], WireClient]


@pytest.fixture
def join(shared: Product) -> Join:
    """A new user's client."""
    return lambda name: WireClient(product=shared, token=shared.new_user(name))


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return make_small_sif(tmp_path / "small.sif", says=str(tmp_path)).read_bytes()


def test_bytes_that_differ_from_the_promise_are_refused_and_leave_nothing(
    join: Join, shared: Product, content: bytes
) -> None:
    client = join("wilma")
    image = client.begin_image("wilma", "tools", "false", content)
    wrong = content[:-1] + bytes([content[-1] ^ 1])
    assert client.call("PUT", client.offer(image, content), wrong).status == 422
    assert client.call("PUT", f"/v2/imagefile/{image}/_complete", {}).status >= 400
    digest = hashlib.sha256(wrong).hexdigest()
    assert not [path for path in shared.blob_files() if digest in path.name]
    assert client.call("GET", f"/v1/images/wilma/tools/false:sha256.{digest}?arch=amd64").status == 404


def test_a_body_that_is_too_short_is_refused(join: Join, content: bytes) -> None:
    client = join("wendy")
    image = client.begin_image("wendy", "tools", "short", content)
    assert client.call("PUT", client.offer(image, content), content[:-10]).status == 422


def test_the_upload_url_needs_no_token_and_no_content_type(
    join: Join, shared: Product, content: bytes
) -> None:
    client = join("willy")
    image = client.begin_image("willy", "tools", "plain", content)
    url = client.offer(image, content)
    assert url.startswith(shared.base)
    assert WireClient(product=shared).call("PUT", url, content).status == 200
    assert client.call("PUT", f"/v2/imagefile/{image}/_complete", {}).status == 200


def test_a_forged_upload_url_is_answered_before_the_bytes_and_the_answer_is_read(shared: Product) -> None:
    forged = WireClient(product=shared).call("PUT", "/v2/transfers/abc.def", os.urandom(4 * MIB))
    assert forged.status == 404


def test_parts_make_the_image_and_a_wrong_part_does_not(join: Join, content: bytes) -> None:
    client = join("petra")
    big = content + os.urandom(70 * MIB)
    image = client.begin_image("petra", "tools", "parts", big)
    started = client.call("POST", f"/v2/imagefile/{image}/_multipart", {"filesize": len(big)}).data
    size, upload = started["partSize"], started["uploadID"]
    assert started["totalParts"] * size >= len(big)
    assert all(isinstance(value, str) for value in started.get("options", {}).values())
    tokens = []
    for number in range(1, started["totalParts"] + 1):
        part = big[(number - 1) * size : number * size]
        asked = {
            "partSize": len(part),
            "uploadID": upload,
            "partNumber": number,
            "sha256sum": hashlib.sha256(part).hexdigest(),
        }
        url = client.call("PUT", f"/v2/imagefile/{image}/_multipart", asked).data["presignedURL"]
        if number == 1:
            assert client.call("PUT", url, part[:-1] + b"?").status == 422
        sent = WireClient(product=client.product).call(
            "PUT", url, part, X_Amz_Content_Sha256=asked["sha256sum"]
        )
        assert sent.status == 200
        tokens.append({"partNumber": number, "token": sent.fields.get("etag", "")})
    done = client.call(
        "PUT", f"/v2/imagefile/{image}/_multipart_complete", {"uploadID": upload, "completedParts": tokens}
    )
    assert done.status == 200
    assert "data" in done.body.decode()


def test_an_aborted_push_leaves_nothing_in_staging(join: Join, shared: Product, content: bytes) -> None:
    client = join("anton")
    big = content + os.urandom(65 * MIB)
    image = client.begin_image("anton", "tools", "aborted", big)
    started = client.call("POST", f"/v2/imagefile/{image}/_multipart", {"filesize": len(big)}).data
    part = big[: started["partSize"]]
    asked = {
        "partSize": len(part),
        "uploadID": started["uploadID"],
        "partNumber": 1,
        "sha256sum": hashlib.sha256(part).hexdigest(),
    }
    url = client.call("PUT", f"/v2/imagefile/{image}/_multipart", asked).data["presignedURL"]
    assert client.call("PUT", url, part).status == 200
    aborted = client.call("PUT", f"/v2/imagefile/{image}/_multipart_abort", {"uploadID": started["uploadID"]})
    assert aborted.status in {200, 204}
    assert shared.staging_files() == []


def test_only_the_owner_may_abort_or_complete(join: Join, shared: Product, content: bytes) -> None:
    owner, thief = join("oskar"), join("thief")
    image = owner.begin_image("oskar", "tools", "mine", content)
    for step in ("_complete", "_multipart", "_multipart_complete", "_multipart_abort"):
        method = "POST" if step == "_multipart" else "PUT"
        body = {"filesize": 100 * MIB, "uploadID": "x", "completedParts": []}
        assert thief.call(method, f"/v2/imagefile/{image}/{step}", body).status in {403, 404}
        assert WireClient(product=shared).call(method, f"/v2/imagefile/{image}/{step}", body).status in {
            401,
            404,
        }


def test_the_oldest_protocol_still_pushes(join: Join, content: bytes) -> None:
    client = join("vera")
    image = client.begin_image("vera", "tools", "old", content)
    assert client.call("POST", f"/v1/imagefile/{image}", content).status == 200
    digest = hashlib.sha256(content).hexdigest()
    found = client.call("GET", f"/v1/images/vera/tools/old:sha256.{digest}")
    assert (found.data["uploaded"], found.data["size"]) == (True, len(content))


@pytest.mark.parametrize("scheme", ["Bearer", "BEARER", "bearer"])
def test_the_scheme_of_the_token_has_no_case(join: Join, scheme: str) -> None:
    client = join({"Bearer": "title", "BEARER": "upper", "bearer": "lower"}[scheme])
    loud = WireClient(product=client.product, token=client.token, scheme=scheme)
    assert loud.call("GET", "/v1/token-status").status == 200


def test_a_bad_token_is_not_found_at_login(shared: Product) -> None:
    assert WireClient(product=shared, token="y" * 250).call("GET", "/v1/token-status").status == 404


def test_tokens_fit_the_token_file_of_the_real_command(join: Join) -> None:
    assert 200 <= len(join("tokenfile").token) <= 4096


def test_discovery_names_the_services_on_the_public_url(shared: Product) -> None:
    status, body = shared.get("/assets/config/config.prod.json")
    assert status == 200
    assert f'"uri":"{shared.base}' in body.decode().replace(" ", "")
    assert shared.get("/v1/oci-redirect?namespace=a/b/c&accessTypes=pull")[0] == 404


def test_a_delete_with_the_query_escaped_as_singularity_3_7_0_does(join: Join, content: bytes) -> None:
    client = join("deleter")
    image = client.begin_image("deleter", "tools", "old", content)
    assert client.call("PUT", client.offer(image, content), content).status == 200
    assert client.call("PUT", f"/v2/imagefile/{image}/_complete", {}).status == 200
    container = client.call("GET", "/v1/containers/deleter/tools/old").data["id"]
    tagged = client.call("POST", f"/v2/tags/{container}", {"Arch": "amd64", "Tag": "v1", "ImageID": image})
    assert tagged.status == 200
    assert client.call("DELETE", "/v1/images/deleter/tools/old:v1?arch%3Damd64").status == 200


def test_a_pull_is_redirected_with_303_and_answers_ranges_exactly(join: Join, content: bytes) -> None:
    client = join("puller")
    image = client.begin_image("puller", "tools", "ranges", content)
    assert client.call("PUT", client.offer(image, content), content).status == 200
    assert client.call("PUT", f"/v2/imagefile/{image}/_complete", {}).status == 200
    digest = hashlib.sha256(content).hexdigest()
    led = client.call("GET", f"/v1/imagefile/puller/tools/ranges:sha256.{digest}?arch=amd64")
    assert led.status == 303
    assert led.fields["location"].startswith(client.product.base)
    anonymous = WireClient(product=client.product)
    whole = anonymous.call("GET", led.fields["location"])
    assert (whole.status, whole.body) == (200, content)
    assert digest in whole.fields["etag"]
    probe = anonymous.call("GET", led.fields["location"], Range="bytes=0-1024")
    assert (probe.status, probe.body) == (206, content[:1025])
    assert probe.fields["content-range"] == f"bytes 0-1024/{len(content)}"
    last = anonymous.call("GET", led.fields["location"], Range="bytes=-10")
    assert (last.status, last.body) == (206, content[-10:])
    beyond = anonymous.call("GET", led.fields["location"], Range=f"bytes={len(content)}-")
    assert beyond.status == 416
    head = anonymous.call("HEAD", led.fields["location"])
    assert (head.status, head.fields["content-length"], head.body) == (200, str(len(content)), b"")
    assert anonymous.call("GET", led.fields["location"][:-2] + "xx").status == 404
