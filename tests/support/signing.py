"""Owns requests to S3 that are signed as a careless client signs them: with any one part wrong."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import SplitResult, quote

from minio.credentials.credentials import Credentials
from minio.signer import presign_v4, sign_v4_s3

from gateway.trace.sigv4 import SignedRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A client's idea of the server. ``host`` is what it signs, ``sent_host`` what it sends ("" = the same)."""

    access_key: str
    secret_key: str
    host: str
    sent_host: str = ""
    region: str = "us-east-1"
    skew: timedelta = timedelta()
    now: datetime | None = None
    signed_path: str = ""

    def but(self, **changes: object) -> "Signer":
        """The same with a mistake."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def header(
        self, method: str, path: str, body: bytes = b"", *, payload: str = "", **more: str
    ) -> SignedRequest:
        """Signed in the Authorization field. ``payload``: the declared digest; ``more``: fields sent unsigned."""
        when = self._when()
        declared = payload or hashlib.sha256(body).hexdigest()
        headers: dict[str, str | list[str] | tuple[str]] = {
            "Host": self.host,
            "x-amz-date": when.strftime("%Y%m%dT%H%M%SZ"),
            "x-amz-content-sha256": declared,
        }
        signed = sign_v4_s3(
            method=method,
            url=SplitResult("http", self.host, self.signed_path or quote(path), "", ""),
            region=self.region,
            headers=headers,
            credentials=Credentials(self.access_key, self.secret_key),
            content_sha256=declared,
            date=when,
        )
        fields = {name.lower(): str(value) for name, value in signed.items()}
        fields["host"] = self.sent_host or self.host
        fields |= {name.replace("_", "-"): value for name, value in more.items()}
        return SignedRequest(method=method, target=quote(path), fields=tuple(fields.items()))

    def query(self, method: str, path: str, *, expires_s: int = 300, **more: str) -> SignedRequest:
        """A presigned URL, over Host and UNSIGNED-PAYLOAD. ``more``: fields sent unsigned."""
        url = presign_v4(
            method=method,
            url=SplitResult("http", self.host, self.signed_path or quote(path), "", ""),
            region=self.region,
            credentials=Credentials(self.access_key, self.secret_key),
            date=self._when(),
            expires=expires_s,
        )
        fields = {"host": self.sent_host or self.host}
        fields |= {name.replace("_", "-"): value for name, value in more.items()}
        return SignedRequest(method=method, target=f"{quote(path)}?{url.query}", fields=tuple(fields.items()))

    def _when(self) -> datetime:
        return (self.now or datetime.now(UTC)) + self.skew
