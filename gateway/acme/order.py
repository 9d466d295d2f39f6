"""Owns the talk with a certificate authority (RFC 8555); the only file that imports acme and josepy. Blocks."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import josepy
import requests
from acme import challenges as acme_challenges
from acme import client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gateway.acme.account import Account
from gateway.acme.challenges import Challenges
from gateway.acme.plan import AcmePlan
from gateway.acme.schedule import retry_time_in
from gateway.net.certificate import key_pem

ORDER_DEADLINE: Final = timedelta(minutes=5)
REQUEST_S: Final = 30
# Pebble rejects nonces on purpose, and big authorities lose some when a request changes data centre.
NONCE_TRIES: Final = 12
# id-pe-acmeIdentifier (RFC 8737 3): the digest that only the account's holder can compute.
_ACME_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")

type OrderKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class OrderFailed(Exception):
    """No certificate. The sentence says why; ``retry_at`` is when the authority wants to hear from us again.

    ``unreached`` tells that the authority never heard of it, so that trying again soon burdens nobody.
    """

    def __init__(self, sentence: str, retry_at: datetime | None = None, *, unreached: bool = False) -> None:
        self.sentence = sentence
        self.retry_at = retry_at
        self.unreached = unreached
        super().__init__(sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new certificate: chain as the authority gave it, and the key we made for it."""

    chain_pem: bytes
    key_pem: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What the authority says about renewal (ARI, RFC 9773). ``renew_at`` is None where it has no opinion."""

    renew_at: datetime | None
    ask_again_at: datetime


@acme_challenges.ChallengeResponse.register
class _TlsAlpn01Response(acme_challenges.KeyAuthorizationChallengeResponse):
    typ = "tls-alpn-01"


@acme_challenges.Challenge.register
class _TlsAlpn01(acme_challenges.KeyAuthorizationChallenge):
    # The library dropped this challenge with its last test server; the wire part is the same for all kinds.
    response_cls = _TlsAlpn01Response
    typ = _TlsAlpn01Response.typ

    def validation(self, account_key: josepy.jwk.JWK, **_unused: object) -> bytes:
        """The digest that the challenge's certificate must carry."""
        return hashlib.sha256(self.key_authorization(account_key).encode()).digest()


class _Network(client.ClientNetwork):
    """The library gives up at the second rejected nonce."""

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(NONCE_TRIES - 1):
            try:
                return self._post_once(*args, **kwargs)
            except messages.Error as exc:
                if exc.code != "badNonce":
                    raise
        return self._post_once(*args, **kwargs)


def obtain(plan: AcmePlan, *, now: Callable[[], datetime]) -> Issued:
    """Order the plan's certificate and answer its challenges.

    Raises: OrderFailed.
    """
    with _translated(plan, now):
        account = Account.load(plan.folder, plan.directory)
        acme = _connect(plan, account)
        try:
            return _carry_out(plan, acme)
        except messages.Error as exc:
            if exc.code not in {"accountDoesNotExist", "unauthorized"} or account.uri == "":
                raise
            # The authority forgot us (a rebuilt internal CA): the same key signs up once more.
            account.forget_uri(plan.folder)
            return _carry_out(plan, _connect(plan, Account.load(plan.folder, plan.directory)))


def ask_advice(plan: AcmePlan, leaf_pem: bytes, *, now: Callable[[], datetime]) -> Advice:
    """When the authority wants the certificate renewed.

    Raises: OrderFailed.
    """
    with _translated(plan, now):
        network = _network(plan, None)
        directory = client.ClientV2.get_directory(plan.directory, network)
        renew_at, ask_again_at = client.ClientV2(directory, network).renewal_time(leaf_pem)
        # The library mixes aware times (from the wire) and naive local ones (its own).
        return Advice(
            renew_at=renew_at and renew_at.astimezone(UTC), ask_again_at=ask_again_at.astimezone(UTC)
        )


def _carry_out(plan: AcmePlan, acme: client.ClientV2) -> Issued:
    key = _new_key(plan)
    order = acme.new_order(_signing_request(key, plan.names))
    deadline = datetime.now() + ORDER_DEADLINE  # noqa: DTZ005 - the library compares with naive local time
    with _answers_open(plan, acme, order) as challenges:
        for challenge, response in challenges:
            acme.answer_challenge(challenge, response)
        order = acme.poll_authorizations(order, deadline)
    order = acme.finalize_order(order, deadline)
    return Issued(chain_pem=order.fullchain_pem.encode(), key_pem=key_pem(key))


type _Answer = tuple[messages.ChallengeBody, acme_challenges.ChallengeResponse]


def _answers_open(
    plan: AcmePlan, acme: client.ClientV2, order: messages.OrderResource
) -> AbstractContextManager[list[_Answer]]:
    account_key = cast("josepy.jwk.JWK", acme.net.key)
    pending = [a for a in order.authorizations if a.body.status != messages.STATUS_VALID]
    chosen = [(a.body.identifier.value, _choose(plan, a)) for a in pending]
    answers = [(c, c.chall.response(account_key)) for _, c in chosen]
    folder = Challenges(plan.data_dir)
    if plan.challenge == "http-01":
        texts = {c.chall.encode("token"): c.chall.validation(account_key).encode() for _, c in chosen}
        return _lasting(folder.opened_http(texts), answers)
    pairs = {name: _challenge_pair(name, c.chall.validation(account_key)) for name, c in chosen}
    return _lasting(folder.opened_tls(pairs), answers)


@contextmanager
def _lasting(opened: AbstractContextManager[None], answers: list[_Answer]) -> Iterator[list[_Answer]]:
    with opened:
        yield answers


def _choose(plan: AcmePlan, authorization: messages.AuthorizationResource) -> messages.ChallengeBody:
    offered = authorization.body.challenges
    for challenge in offered:
        if challenge.chall.typ == plan.challenge:
            return challenge
    kinds = ", ".join(sorted(str(getattr(c.chall, "typ", None) or c.chall.jobj["type"]) for c in offered))
    raise OrderFailed(
        f"The authority does not offer {plan.challenge} for {authorization.body.identifier.value}, but {kinds}."
        " Change tls.acme_challenge."
    )


def _connect(plan: AcmePlan, account: Account) -> client.ClientV2:
    network = _network(plan, account)
    directory = client.ClientV2.get_directory(plan.directory, network)
    acme = client.ClientV2(directory, network)
    if account.uri:
        network.account = messages.RegistrationResource(uri=account.uri, body=messages.Registration())
        return acme
    binding = None
    if plan.eab_kid and plan.eab_key_file:
        mac_key = plan.eab_key_file.read_text().strip().rstrip("=")
        public = cast("josepy.jwk.JWK", network.key).public_key()
        binding = messages.ExternalAccountBinding.from_data(public, plan.eab_kid, mac_key, directory)
    elif acme.external_account_required():
        raise OrderFailed(
            f"{plan.directory} wants an External Account Binding: set tls.acme_eab_kid and tls.acme_eab_key_file."
        )
    wanted = messages.NewRegistration.from_data(
        email=plan.email or None, terms_of_service_agreed=True, external_account_binding=binding
    )
    try:
        uri = acme.new_account(wanted).uri
    except errors.ConflictError as exc:  # the key has an account already
        uri = exc.location
        network.account = messages.RegistrationResource(uri=uri, body=messages.Registration())
    account.keep_uri(plan.folder, uri)
    return acme


def _network(plan: AcmePlan, account: Account | None) -> _Network:
    return _Network(
        key=josepy.jwk.JWKEC(key=account.key) if account is not None else None,
        alg=josepy.jwa.ES256,
        # requests takes a path here; the library's annotation knows only bool.
        verify_ssl=cast("bool", str(plan.ca_file) if plan.ca_file else True),
        user_agent="sregistry-gateway",
        timeout=REQUEST_S,
    )


def _new_key(plan: AcmePlan) -> OrderKey:
    if plan.key_type == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def _signing_request(key: OrderKey, names: tuple[str, ...]) -> bytes:
    alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def _challenge_pair(name: str, digest: bytes) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    now = datetime.now(UTC)
    octets = b"\x04" + bytes([len(digest)]) + digest
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_ACME_IDENTIFIER, octets), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


@contextmanager
def _translated(plan: AcmePlan, now: Callable[[], datetime]) -> Iterator[None]:
    try:
        yield
    except messages.Error as exc:
        raise _refusal(exc, now()) from exc
    except errors.ValidationError as exc:
        raise OrderFailed(_failed_validation(plan, exc)) from exc
    except errors.IssuanceError as exc:
        raise _refusal(exc.error, now()) from exc
    except errors.TimeoutError as exc:
        raise OrderFailed(f"{plan.directory} did not finish the order within five minutes.") from exc
    except requests.RequestException as exc:
        raise OrderFailed(
            f"{plan.directory} cannot be reached: {_root_cause(exc)}.",
            unreached=isinstance(exc, requests.ConnectionError),
        ) from exc
    except (errors.Error, josepy.errors.Error, OSError, ValueError, KeyError) as exc:
        raise OrderFailed(f"The order at {plan.directory} failed: {type(exc).__name__}: {exc}.") from exc


def _refusal(error: messages.Error, now: datetime) -> OrderFailed:
    detail = str(error.detail or error.title or error.typ)
    parts = [f"{sub.identifier.value}: {sub.detail}" for sub in error.subproblems or () if sub.identifier]
    sentence = f"The authority refused: {'; '.join([detail, *parts])} ({error.code or error.typ})."
    return OrderFailed(sentence, retry_time_in(detail, now) if error.code == "rateLimited" else None)


def _failed_validation(plan: AcmePlan, failure: errors.ValidationError) -> str:
    told = [
        f"{authorization.body.identifier.value}: {challenge.error.detail}"
        for authorization in failure.failed_authzrs
        for challenge in authorization.body.challenges
        if challenge.error is not None
    ]
    port = "80" if plan.challenge == "http-01" else "443"
    return (
        f"The authority could not verify {'; '.join(told) or 'the names'}."
        f" Do all names lead to this machine, and does port {port} reach the gateway?"
    )


def _root_cause(exc: BaseException) -> str:
    text = str(exc)
    found = re.search(
        r"(Connection refused|Name or service not known|certificate verify failed|timed out)", text
    )
    return found[1] if found else text[:300]
