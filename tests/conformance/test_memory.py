"""Owns the bound of memory: eight at once, as forms and as pushes of the library client, on disk and in S3.

48 MB for each are more than all buffers hold, so what is seen here does not grow with the size (bench.memory has
8 GiB). With `TEST_MEMORY_BYTES=1000000000` it may be tried.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.library_client import build_library_client
from tests.support.product import Product, running_product
from tests.support.seaweed import running_seaweed
from tests.support.sif import make_sif

AT_ONCE = 8
ONE_AFTER_THE_OTHER = 60
BYTES = int(os.environ.get("TEST_MEMORY_BYTES", "48000000"))
MOST_MIB = 120

type Way = Callable[[Product, str, Path], None]


@pytest.fixture(params=["disk", "s3"])
def product(request: pytest.FixtureRequest) -> Iterator[Product]:
    with tempfile.TemporaryDirectory(prefix="gw-") as name:
        folder = Path(name)
        if request.param == "disk":
            with running_product(folder) as running:
                yield running
            return
        with (
            running_seaweed(folder / "s3") as server,
            running_product(folder / "product", settings=server.environ) as running,
        ):
            yield running


def by_form(product: Product, token: str, image: Path) -> None:
    product.curl(
        "--fail", "-H", f"Authorization: Bearer {token}", "-F", f"file=@{image}",
        f"{product.base}/upload?collection=memory/images&name={image.stem}",
    )  # fmt: skip


def by_push(product: Product, token: str, image: Path) -> None:
    product.library(token).run("push", f"memory/images/{image.stem}", image)


@pytest.mark.parametrize("way", [by_form, by_push])
def test_eight_uploads_at_once_stay_within_the_bound(product: Product, tmp_path: Path, way: Way) -> None:
    token = product.new_user("memory")
    images = [make_sif(tmp_path / f"image{n}.sif", size_bytes=BYTES) for n in range(AT_ONCE)]
    if way is by_push:
        build_library_client()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda image: way(product, token, image), images))
    assert product.rss_mib(peak=True) <= MOST_MIB


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_tls_connections_that_are_over_leave_nothing(version: str, tmp_path: Path) -> None:
    """Each has buffers of half a MiB. They lay in a cycle that was found after hundreds of connections only."""
    image = make_sif(tmp_path / "image.sif", size_bytes=2_000_000)
    with (
        tempfile.TemporaryDirectory(prefix="gw-") as name,
        running_product(Path(name), settings={"GATEWAY_SERVER__HTTP2": "true"}) as product,
    ):
        token = product.new_user("memory")

        def upload(number: int) -> None:
            product.curl(
                "--fail", version, "-H", f"Authorization: Bearer {token}", "-F", f"file=@{image}",
                f"{product.base}/upload?collection=memory/images&name=image{number}",
            )  # fmt: skip

        for number in range(10):
            upload(number)
        before = product.rss_mib()
        for number in range(ONE_AFTER_THE_OTHER):
            upload(number)
        assert product.rss_mib() - before < 5
