"""Owns every way a request can fail: one class, one status, one stable code, one sentence."""

from dataclasses import dataclass


class GatewayError(Exception):
    """A failure with an answer.

    ``message`` is shown to the client and says what is wrong and what to do. ``detail`` is only logged.
    ``retry_after_s`` becomes the ``Retry-After`` header. ``headers`` are added to the answer
    (``WWW-Authenticate``, ``Allow``). ``closes`` tells that the connection cannot be used again.
    """

    status = 500
    code = "internal"
    default_message = "The gateway made a mistake. Quote the request id to the administrator."
    closes = False

    def __init__(
        self,
        message: str | None = None,
        *,
        detail: str = "",
        retry_after_s: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.message = message or self.default_message
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.headers = headers
        super().__init__(f"{self.message} [{detail}]" if detail else self.message)


class ClientError(GatewayError):
    """The client's doing: logged at info, never with a traceback."""


class MalformedRequest(ClientError):
    """The bytes are not one unambiguous HTTP/1.1 request (RFC 9112)."""

    status = 400
    code = "malformed_request"
    default_message = "The request is malformed."
    closes = True


class BadForm(ClientError):
    """A form that cannot be read, or lacks what is needed (RFC 7578)."""

    status = 400
    code = "bad_form"
    default_message = "The form is malformed."
    closes = True  # whoever writes no proper form may have got its end wrong, too


class Unauthorized(ClientError):
    status = 401
    code = "unauthorized"
    default_message = "Authentication is needed: send 'Authorization: Bearer TOKEN', or sign in."


class Forbidden(ClientError):
    status = 403
    code = "forbidden"
    default_message = "You may not do this."


class CertificateNeeded(Forbidden):
    """Only who proves a client certificate may come here (``tls.client_certificate_paths``)."""

    code = "certificate_needed"
    default_message = (
        "This page wants a client certificate. Give yours to the browser, or to curl by --cert and --key,"
        " over https and on a new connection."
    )
    closes = True  # the next connection's handshake is the next chance to show one


class NotFound(ClientError):
    status = 404
    code = "not_found"
    default_message = "There is nothing here."


class MethodNotAllowed(ClientError):
    status = 405
    code = "method_not_allowed"
    default_message = "This method is not allowed here."


class HeadTimeout(ClientError):
    status = 408
    code = "head_timeout"
    default_message = "The request took too long to arrive."
    closes = True


class BodyTimeout(ClientError):
    """The body stalled, or came slower than the minimum rate."""

    status = 408
    code = "body_timeout"
    default_message = "The request body stalled, or came more slowly than this server accepts."
    closes = True


class Conflict(ClientError):
    status = 409
    code = "conflict"
    default_message = "This contradicts what is already here."


class RangeNotSatisfiable(ClientError):
    status = 416
    code = "range_not_satisfiable"
    default_message = "The requested range lies outside the file."


class ExpectationFailed(ClientError):
    status = 417
    code = "expectation_failed"
    default_message = "Only 'Expect: 100-continue' is supported."


class BodyTooLarge(ClientError):
    status = 413
    code = "body_too_large"
    default_message = "The upload is larger than this server accepts."


class TargetTooLong(ClientError):
    status = 414
    code = "target_too_long"
    default_message = "The request target is too long."
    closes = True


class UnsupportedForm(ClientError):
    status = 415
    code = "unsupported_form"
    default_message = "Send the form as multipart/form-data."
    closes = True


class DigestMismatch(ClientError):
    status = 422
    code = "digest_mismatch"
    default_message = "The bytes that arrived are not the bytes that were promised."


class LengthMismatch(ClientError):
    status = 422
    code = "length_mismatch"
    default_message = "The size that arrived is not the size that was promised."


class BadUpload(ClientError):
    """A resumable upload's request that cannot be read (uploads.md sections 2 and 3)."""

    status = 400
    code = "bad_upload"
    default_message = "The upload request is malformed."


class InconsistentLength(ClientError):
    """What is said about an upload's length contradicts itself, or what arrived."""

    status = 400
    code = "inconsistent_length"
    default_message = "The length that was promised contradicts what was said before, or what arrived."


class UploadCompleted(ClientError):
    status = 400
    code = "upload_completed"
    default_message = "This upload is complete: nothing can be added."


class OffsetMismatch(ClientError):
    """``expected`` is the true offset in bytes, ``provided`` the client's."""

    status = 409
    code = "offset_mismatch"
    default_message = "The upload is at another offset. Ask for it (HEAD) and go on from there."

    def __init__(self, *, expected: int, provided: int) -> None:
        super().__init__(headers=(("upload-offset", str(expected)),))
        self.expected = expected
        self.provided = provided


class Superseded(ClientError):
    """A newer request for the same upload ended this one; what had arrived is kept."""

    status = 409
    code = "superseded"
    default_message = "A newer request for this upload took over."
    closes = True


class UnsupportedProtocol(ClientError):
    status = 412
    code = "unsupported_protocol"
    default_message = "This version of the upload protocol is not spoken here."


class UnsupportedContent(ClientError):
    status = 415
    code = "unsupported_content"
    default_message = "This content type does not belong into an upload."


class UploadLocked(ClientError):
    status = 423
    code = "upload_locked"
    default_message = "Another request for this upload is being finished. Try again in a moment."


class ChecksumMismatch(ClientError):
    """tus: the chunk is not what its checksum says; nothing of it was kept."""

    status = 460
    code = "checksum_mismatch"
    default_message = "The bytes that arrived do not match their checksum. Nothing of them was kept."


class TooManyRequests(ClientError):
    status = 429
    code = "too_many_requests"
    default_message = "Too many requests. Try again later."


class HeadTooLarge(ClientError):
    status = 431
    code = "head_too_large"
    default_message = "The request head is too large."
    closes = True


class ClientGone(ClientError):
    """The client closed before its body was complete. Nobody is there to be answered; logged as 499."""

    status = 499
    code = "client_gone"
    default_message = "The client went away."
    closes = True


class UpstreamError(GatewayError):
    """Something behind the gateway failed: logged as a warning."""

    status = 502
    code = "upstream"
    default_message = "The service behind this gateway failed. Try again later."


class CoreDown(UpstreamError):
    """Nobody answers behind the gateway; shown as the maintenance page."""

    status = 503
    code = "core_down"
    default_message = "The registry is down for maintenance. Try again in a moment."


class InMaintenance(UpstreamError):
    """An administrator closed the door; shown as the maintenance page."""

    status = 503
    code = "maintenance"
    default_message = "The registry is down for maintenance. Try again later."


class UpstreamProtocol(UpstreamError):
    status = 502
    code = "upstream_protocol"
    default_message = "The service behind this gateway gave an answer that could not be understood."


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"
    default_message = "The service behind this gateway took too long to answer."


class CoreRefused(GatewayError):
    """The core said no; its status and sentence are passed on as they are."""

    code = "core_refused"

    def __init__(self, status: int, message: str, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message, headers=headers)
        self.status = status


class StoreError(GatewayError):
    """The store failed: logged as an error."""

    status = 503
    code = "store"
    default_message = "The store cannot be used right now. Try again later."

    def __init__(
        self, message: str | None = None, *, detail: str = "", retry_after_s: int | None = 30
    ) -> None:
        super().__init__(message, detail=detail, retry_after_s=retry_after_s)


class StoreDown(StoreError):
    code = "store_down"


class StoreFull(StoreError):
    status = 507
    code = "store_full"
    default_message = "The store is full. Tell the administrator, and try again later."


class StoreCorrupt(StoreError):
    status = 500
    code = "store_corrupt"
    default_message = "A stored image is damaged. Tell the administrator."


class BlobMissing(NotFound):
    """The store has no blob under this key."""

    code = "blob_missing"
    default_message = "The image file is not in the store."


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with the settings. ``where`` is the dotted name of the setting."""

    where: str
    what: str


class SettingsError(Exception):
    """The settings cannot be used; carries every problem found. The commands exit with 2."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{p.where}: {p.what}" for p in problems))
