"""Owns links that carry their own signature: AWS Signature Version 4 in the query. Pure.

The ``minio`` SDK signs links too, but none that bind the client to a digest.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from gateway.settings import S3

MOST_EXPIRE_S: Final = 7 * 86400  # more is refused by every server
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_DEFAULT_PORTS: Final = {"https": ":443", "http": ":80"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs, for where. ``host`` is HOST[:PORT] as clients will dial it."""

    scheme: str
    host: str
    bucket: str
    region: str
    keys: tuple[str, str]

    def sign(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str],
        expires_s: int,
        now: datetime,
        sha256: str = "",
    ) -> str:
        """The URL of an object. With ``sha256`` the client must say in ``x-amz-content-sha256`` that it sends bytes
        of this digest; most servers make sure that it does (SeaweedFS does not).
        """
        access_key, secret_key = self.keys
        # Clients leave the usual port out of the Host header, and that is what is signed.
        host = self.host.removesuffix(_DEFAULT_PORTS[self.scheme])
        headers = {"host": host} | ({"x-amz-content-sha256": sha256} if sha256 else {})
        names = ";".join(sorted(headers))
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        said = {
            **query,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{access_key}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(max(1, min(expires_s, MOST_EXPIRE_S))),
            "X-Amz-SignedHeaders": names,
        }
        if sha256:
            # MinIO and AWS find the digest in the header; SeaweedFS only here.
            said["X-Amz-Content-Sha256"] = sha256
        pairs = sorted((_quoted(name), _quoted(value)) for name, value in said.items())
        text = "&".join(f"{name}={value}" for name, value in pairs)
        quoted = quote(f"/{self.bucket}/{key}", safe="/-._~")
        canonical = "\n".join(
            (
                method,
                quoted,
                text,
                *(f"{name}:{headers[name]}" for name in sorted(headers)),
                "",
                names,
                sha256 or _UNSIGNED,
            )
        )
        to_sign = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
        signing = f"AWS4{secret_key}".encode()
        for word in scope.split("/"):
            signing = hmac.digest(signing, word.encode(), "sha256")
        signature = hmac.digest(signing, to_sign.encode(), "sha256").hex()
        return f"{self.scheme}://{host}{quoted}?{text}&X-Amz-Signature={signature}"


def first_pair(settings: S3) -> tuple[str, str]:
    """The pair that S3 should take; either may be empty."""
    return settings.access_key.get_secret_value(), settings.secret_key.get_secret_value()


def key_pairs(settings: S3) -> tuple[tuple[str, str], ...]:
    """The keys to sign with, the ones to try first first."""
    pairs = (
        first_pair(settings),
        (settings.previous_access_key.get_secret_value(), settings.previous_secret_key.get_secret_value()),
    )
    return tuple(pair for pair in pairs if all(pair))


def external_url(settings: S3) -> str:
    """Where clients reach S3."""
    host, is_tls = settings.endpoint, settings.ssl
    if settings.external_endpoint:
        host = settings.external_endpoint
        is_tls = {"same": is_tls, "on": True, "off": False}[settings.external_ssl]
    return f"{'https' if is_tls else 'http'}://{host}"


def signer_of(settings: S3, keys: tuple[str, str]) -> Signer:
    """For links to the endpoint that clients reach, with these keys."""
    scheme, _, host = external_url(settings).partition("://")
    return Signer(
        scheme=scheme,
        host=host,
        bucket=settings.bucket,
        region=settings.region,
        keys=keys,
    )


def _quoted(text: str) -> str:
    return quote(text, safe="-._~")
