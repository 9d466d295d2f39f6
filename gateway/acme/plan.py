"""Owns what is to be ordered where: the ACME side of the settings, as one value."""

import hashlib
import ipaddress
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, Self

from gateway.errors import Problem, SettingsError
from gateway.net.certificate import CertificateRefused
from gateway.net.dev_ca import canonical_name
from gateway.net.tls import host_names, live_pair_path
from gateway.settings import Settings

DIRECTORIES: Final = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}

type ChallengeKind = Literal["http-01", "tls-alpn-01"]
type KeyType = Literal["ecdsa", "rsa"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmePlan:
    """One certificate: its names, its authority, and how we prove that the names are ours."""

    data_dir: Path
    names: tuple[str, ...]
    directory: str
    email: str = ""
    ca_file: Path | None = None
    challenge: ChallengeKind = "http-01"
    eab_kid: str = ""
    eab_key_file: Path | None = None
    key_type: KeyType = "ecdsa"
    deploy_hook: str = ""

    @property
    def folder(self) -> Path:
        """Folder of account, state and certificate."""
        return self.data_dir / "acme"

    @property
    def live(self) -> Path:
        """The pair in use: key and chain in one file, so that it changes in one step."""
        return live_pair_path(self.data_dir)

    @property
    def id(self) -> str:
        """What a failure is remembered for: another order may be tried at once."""
        what = (self.directory, self.names, self.challenge, self.eab_kid)
        return hashlib.sha256(repr(what).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The plan as text, for the process that carries it out."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan that ``to_json`` wrote."""
        plan = json.loads(text)
        for name in ("data_dir", "ca_file", "eab_key_file"):
            plan[name] = Path(plan[name]) if plan[name] else None
        return cls(**{**plan, "names": tuple(plan["names"])})


def plan_of(settings: Settings) -> AcmePlan:
    """The certificate that the settings ask for.

    Raises: SettingsError.
    """
    tls = settings.tls
    names, problems = _names(settings)
    if tls.acme_challenge == "http-01" and not settings.server.http:
        problems.append(
            Problem(
                where="tls.acme_challenge",
                what="http-01 needs server.http (port 80 of the world must reach it); or use tls-alpn-01",
            )
        )
    if bool(tls.acme_eab_kid) != bool(tls.acme_eab_key_file):
        problems.append(
            Problem(where="tls.acme_eab_kid", what="External Account Binding needs kid and key file, both")
        )
    if problems:
        raise SettingsError(tuple(problems))
    return AcmePlan(
        data_dir=settings.data_dir,
        names=names,
        directory=DIRECTORIES.get(tls.acme_directory, tls.acme_directory),
        email=tls.acme_email,
        ca_file=tls.acme_ca_file,
        challenge=tls.acme_challenge,
        eab_kid=tls.acme_eab_kid,
        eab_key_file=tls.acme_eab_key_file,
        key_type=tls.acme_key_type,
        deploy_hook=tls.deploy_hook,
    )


def _names(settings: Settings) -> tuple[tuple[str, ...], list[Problem]]:
    given = settings.tls.acme_names or tuple(n for n in host_names(settings) if n != "localhost")
    if not given:
        what = "tls.mode = 'acme' needs a name to order a certificate for: set server.public_url"
        return (), [Problem(where="tls.acme_names", what=what)]
    names: list[str] = []
    problems: list[Problem] = []
    for name in given:
        try:
            names.append(canonical_name(name))
        except CertificateRefused as exc:
            problems.append(Problem(where="tls.acme_names", what=exc.sentence))
    problems += [
        Problem(where="tls.acme_names", what=f"'{name}': {why}") for name in names if (why := _unfit(name))
    ]
    return tuple(dict.fromkeys(names)), problems


def _unfit(name: str) -> str:
    if "*" in name:
        return "wildcards need a DNS challenge, which is not built in; list the names"
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return ""
    return "an address cannot be proven by these challenges; use a host name"
