"""Owns the S3 wire: signed requests on kept connections, retries within a bound, errors by their meaning.

The only module that knows the ``minio`` SDK. It signs with it; it does not upload with it:
``Minio.put_object`` copies each part, hashes it twice and blocks on one connection (docs/storage.md has the numbers),
while a part here goes to the socket straight from the buffer it arrived in. The SDK is imported with the first
request, for it takes 0.4 s and 30 MiB that a disk store should not pay.
"""

import http.client
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final
from urllib.parse import SplitResult, quote

from gateway.errors import StoreDown
from gateway.settings import S3
from gateway.store.asking import asking
from gateway.store.s3_answers import WRONG_KEY, S3Answer, S3Fault, error_code
from gateway.store.s3_exchange import CONNECT_S, PROBE_S, Body, Call, cut, exchange, is_quiet
from gateway.store.s3_presign import Signer, first_pair, key_pairs, signer_of
from gateway.store.s3_streamed import Streamed
from gateway.store.s3_tap import S3Observer, S3Seen

log = logging.getLogger(__name__)

PATIENCE_S: Final = 3.0  # how long a small request is tried again
PART_PATIENCE_S: Final = 25.0  # a part has been paid for by the client: a server that restarts is waited for
_PAUSES_S: Final = (0.05, 0.2, 0.5, 1.0, 2.0)
_IDLE_CONNECTIONS: Final = 16
# After a request was given up, the next ones fail at once for this long instead of queueing up one by one.
_DOWN_S: Final = 1.0
_FRESH_S: Final = 5.0

_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_REFUSALS: Final = frozenset({400, 401, 403})

# What is made of an answer whose head is here.
type Take[T] = Callable[[S3Wire, Call, http.client.HTTPConnection, http.client.HTTPResponse], T]


class S3Wire:
    """Requests to one bucket, from any thread. Making one neither dials nor fails."""

    def __init__(self, settings: S3) -> None:
        self._settings = settings
        self._keys = key_pairs(settings)
        self._first = first_pair(settings)
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._down_until = 0.0
        self._fresh_until = 0.0
        self._detour: tuple[str, int] | None = None
        self.observer: S3Observer | None = None

    @property
    def settings(self) -> S3:
        """As it was made; its keys may have been renewed since."""
        return self._settings

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """The pairs of access key and secret key, the one that worked last first."""
        return self._keys

    @property
    def where(self) -> str:
        """Endpoint and bucket, for people."""
        return (
            f"{'https' if self._settings.ssl else 'http'}://{self._settings.endpoint}/{self._settings.bucket}"
        )

    def request(
        self,
        method: str,
        key: str | None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        patience_s: float = PATIENCE_S,
        wanted: Callable[[], bool] = lambda: True,
    ) -> S3Answer:
        """One request, answered in whole; a missing bucket is made when something is written.

        ``wanted`` is asked before each further try. Raises: S3Fault, StoreDown.
        """
        call = Call(method, key, dict(query or {}), dict(headers or {}), body)
        try:
            return self._persist(call, patience_s, wanted, _read_whole)
        except S3Fault as fault:
            if fault.answer.code != "NoSuchBucket" or method not in {"PUT", "POST"}:
                raise
        self.make_bucket()
        return self._persist(call, patience_s, wanted, _read_whole)

    def start_read(self, key: str, headers: Mapping[str, str], *, patience_s: float) -> Streamed:
        """A GET whose body is still on the wire. Raises: S3Fault, StoreDown."""
        return self._persist(Call("GET", key, {}, dict(headers), b""), patience_s, lambda: True, _leave_body)

    def make_bucket(self) -> None:
        """Make the bucket, if it is missing. Raises: S3Fault, StoreDown."""
        region = self._settings.region
        body = b""
        if region not in {"", "us-east-1"}:
            place = f"<LocationConstraint>{region}</LocationConstraint>"
            body = f"<CreateBucketConfiguration>{place}</CreateBucketConfiguration>".encode()
        try:
            self._persist(Call("PUT", None, {}, {}, body), PATIENCE_S, lambda: True, _read_whole)
        except S3Fault as fault:
            if fault.answer.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    def require_up(self, prefix: str = "", *, anew: bool = False) -> None:
        """Say at once whether uploads below ``prefix`` make sense: S3 answers, and takes our keys.

        Without ``anew`` an answer of the last seconds, to whatever was asked, counts. Raises: StoreDown.
        """
        if not anew and time.monotonic() < self._fresh_until:
            return
        listing = {"list-type": "2", "max-keys": "1", "prefix": prefix}
        # The answer to HEAD does not say why, and keys that may only look below a prefix are refused, too.
        for method, query in (("HEAD", {}), ("GET", listing)):
            call = Call(method, None, query, {}, b"", answer_s=PROBE_S)
            try:
                self._persist(call, 0.0, lambda: True, _read_whole)
            except S3Fault as fault:
                if fault.answer.status == http.HTTPStatus.NOT_FOUND:
                    return  # the bucket is made with the first file
                refusal = fault
            else:
                return
        raise StoreDown(detail=f"{self.where}: {refusal}", retry_after_s=10) from refusal

    @property
    def uses_previous_keys(self) -> bool:
        """Whether S3 last took another pair than access_key and secret_key of the settings."""
        return bool(self._keys) and self._keys[0] != self._first

    def take_keys(self, settings: S3) -> None:
        """New key pairs. The pair in use stays the last resort: the server may take up the new one later."""
        pairs = key_pairs(settings)
        with self._lock:
            self._first = first_pair(settings)
            if pairs and pairs != self._keys[: len(pairs)]:
                self._keys = tuple(dict.fromkeys((*pairs, *self._keys[:1])))

    def signer(self) -> Signer:
        """Signs links to the external endpoint with the keys that worked last. Raises: StoreDown."""
        if not self._keys:
            raise StoreDown(detail=f"{self.where}: no access key is set (storage.s3.access_key)")
        return signer_of(self._settings, self._keys[0])

    def redirect(self, address: tuple[str, int] | None) -> None:
        """Dial this plain address from now on; None: the endpoint again. Nothing under way is cut."""
        self._detour = address
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _persist[T](
        self,
        call: Call,
        patience_s: float,
        wanted: Callable[[], bool],
        take: Take[T],
    ) -> T:
        """Try until it is answered, for ``patience_s``. Raises: S3Fault, StoreDown."""
        began = time.monotonic()
        if began < self._down_until and patience_s <= PATIENCE_S:
            raise StoreDown(detail=f"{self.where} did not answer a moment ago", retry_after_s=5)
        pauses = iter(_PAUSES_S)
        while True:
            pause = next(pauses, _PAUSES_S[-1])
            try:
                result = self._with_any_key(call, take)
            except (OSError, http.client.HTTPException) as exc:
                failure: Exception = exc
            except S3Fault as fault:
                if fault.answer.status not in _RETRIED:
                    # Who refuses us answers, but is no help: the next upload asks again before it begins.
                    is_refusal = fault.answer.status in _REFUSALS
                    self._fresh_until = 0.0 if is_refusal else time.monotonic() + _FRESH_S
                    raise
                failure = fault
            else:
                self._fresh_until = time.monotonic() + _FRESH_S
                self._down_until = 0.0
                return result
            if time.monotonic() + pause > began + patience_s or not wanted():
                self._down_until = time.monotonic() + _DOWN_S
                self._fresh_until = 0.0
                detail = f"{self.where}: {call.method} {call.key}: {failure!r}"
                raise StoreDown(detail=detail, retry_after_s=10) from failure
            time.sleep(pause)

    def _with_any_key[T](
        self,
        call: Call,
        take: Take[T],
    ) -> T:
        """While keys are rotated, a server takes the new pair, the old pair, or both: find one it takes."""
        keys = self._keys
        # The first pair twice: a server that changes pairs between two tries has refused each of them.
        tries = (*keys, *keys[:1]) if len(keys) > 1 else keys
        for left, pair in zip(range(len(tries) - 1, -1, -1), tries, strict=True):
            try:
                result = self._try(call, pair, take)
            except S3Fault as fault:
                refused = fault.answer.code in WRONG_KEY or fault.answer.status == http.HTTPStatus.FORBIDDEN
                if not refused or (not left and self._keys is keys):
                    raise
            else:
                with self._lock:
                    if pair is not keys[0] and self._keys is keys:
                        self._keys = (pair, *(other for other in keys if other is not pair))
                return result
        if keys:  # they were replaced while this request was tried with the old ones
            return self._with_any_key(call, take)
        raise StoreDown(detail=f"{self.where}: no access key is set (storage.s3.access_key)")

    def _try[T](
        self,
        call: Call,
        pair: tuple[str, str],
        take: Take[T],
    ) -> T:
        """One exchange, seen by whoever observes."""
        path, headers = self._sign(call, pair)
        if self.observer is None:
            return self._send(call, path, headers, take)
        seen = S3Seen(
            method=call.method,
            target=path,
            sent=headers,
            sent_bytes=len(call.body),
            request=asking.get(),
        )

        def take_seen(
            wire: S3Wire,
            asked: Call,
            connection: http.client.HTTPConnection,
            response: http.client.HTTPResponse,
        ) -> T:
            seen.note_head(response.status, {name.lower(): value for name, value in response.getheaders()})
            return take(wire, asked, connection, response)

        try:
            result = self._send(call, path, headers, take_seen)
        except BaseException as error:
            self._tell(seen.ended_by(error))
            raise
        if isinstance(result, Streamed):  # its body is still to come
            result.ended = lambda received, error: self._tell(seen.ended(received, error=error))
        elif isinstance(result, S3Answer):
            self._tell(seen.ended(len(result.body)))
        return result

    def _tell(self, seen: S3Seen) -> None:
        if (observer := self.observer) is not None:
            try:
                observer(seen)
            except Exception:  # who looks on must not break what is looked at
                log.exception("an exchange with S3 was not told to trace")

    def _send[T](
        self,
        call: Call,
        path: str,
        headers: dict[str, str],
        take: Take[T],
    ) -> T:
        """One exchange; once more if a kept connection turns out to be closed."""
        while True:
            connection, kept = self._connection()
            try:
                response = exchange(connection, call, path, headers)
            except (ConnectionError, http.client.HTTPException):
                cut(connection)
                if kept:
                    continue
                raise
            except BaseException:
                cut(connection)
                raise
            return take(self, call, connection, response)

    def _sign(self, call: Call, pair: tuple[str, str]) -> tuple[str, dict[str, str]]:
        from minio.credentials.credentials import Credentials  # noqa: PLC0415 - see above
        from minio.signer import sign_v4_s3  # noqa: PLC0415

        path = f"/{self._settings.bucket}"
        if call.key is not None:
            path += "/" + quote(call.key, safe="/-._~")
        query = "&".join(f"{quote(k, safe='-._~')}={quote(v, safe='-._~')}" for k, v in call.query.items())
        now = datetime.now(UTC)
        # Bytes of images are not hashed for the wire: they are verified by their own digest, end to end.
        payload = sha256(call.body).hexdigest() if isinstance(call.body, bytes) else "UNSIGNED-PAYLOAD"
        headers: dict[str, str | list[str] | tuple[str]] = {
            **call.headers,
            "Host": self._settings.endpoint,
            "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
            "x-amz-content-sha256": payload,
        }
        sign_v4_s3(  # adds the signature to the headers
            method=call.method,
            url=SplitResult("", self._settings.endpoint, path, query, ""),
            region=self._settings.region,
            headers=headers,
            credentials=Credentials(*pair),
            content_sha256=payload,
            date=now,
        )
        sent = {name: str(value) for name, value in headers.items()}
        if request := asking.get():
            # Not signed: for the server's log, and for who listens in between.
            sent["X-Request-Id"] = request
        return f"{path}?{query}" if query else path, sent

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if is_quiet(connection):
                    return connection, True
                connection.close()
        if self._detour is not None:
            return http.client.HTTPConnection(*self._detour, timeout=CONNECT_S), False
        host, _, port = self._settings.endpoint.rpartition(":")
        host, number = (host, int(port)) if host and port.isdecimal() else (self._settings.endpoint, None)
        if not self._settings.ssl:
            return http.client.HTTPConnection(host.strip("[]"), number or 80, timeout=CONNECT_S), False
        context = ssl.create_default_context(cafile=self._settings.ca_file)
        return (
            http.client.HTTPSConnection(host.strip("[]"), number or 443, timeout=CONNECT_S, context=context),
            False,
        )

    def keep(self, connection: http.client.HTTPConnection) -> None:
        """Take a connection back whose answer was read to its end."""
        is_detoured = (connection.host, connection.port) == self._detour
        with self._lock:
            is_welcome = len(self._idle) < _IDLE_CONNECTIONS and is_detoured == (self._detour is not None)
            if is_welcome and connection.sock is not None:
                self._idle.append(connection)
                return
        connection.close()


def _read_whole(
    wire: S3Wire, call: Call, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
) -> S3Answer:
    try:
        body = response.read()
    except BaseException:
        cut(connection)
        raise
    if response.will_close:
        connection.close()
    else:
        wire.keep(connection)
    headers = {name.lower(): value for name, value in response.getheaders()}
    # Completing a multipart upload may say 200 at once and fail later, in the body.
    failed = response.status >= http.HTTPStatus.MULTIPLE_CHOICES or b"<Error>" in body[:200]
    answer = S3Answer(
        status=response.status, headers=headers, body=body, code=error_code(body) if failed else ""
    )
    if failed:
        raise S3Fault(f"{call.method} {call.key}", answer)
    return answer


def _leave_body(
    wire: S3Wire, call: Call, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
) -> Streamed:
    if response.status >= http.HTTPStatus.MULTIPLE_CHOICES:
        _read_whole(wire, call, connection, response)
    return Streamed(connection, response, wire.keep)
