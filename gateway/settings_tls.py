"""Owns the settings of ``[tls]``."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from gateway.settings_section import Seconds, Section

PRELOAD_LEAST_S: Final = 31_536_000  # a year: what https://hstspreload.org demands


class Tls(Section):
    """How the TLS listener gets its certificate."""

    mode: Literal["dev", "files", "acme", "off"] = Field(
        "dev", description="dev = own local CA; files = certificate and key files; acme = automatic; off."
    )
    certificate: Path | None = Field(None, description="mode files: PEM, leaf first, then the chain.")
    key: Path | None = Field(None, description="mode files: PEM private key.")
    profile: Literal["intermediate", "modern"] = Field(
        "intermediate", description="intermediate = TLS 1.2 and 1.3; modern = TLS 1.3 only."
    )
    handshake_s: Seconds = Field(20.0, description="Seconds a TLS handshake may take.")
    strict_sni: bool = Field(
        False, description="Refuse handshakes for names that the certificate does not cover."
    )
    client_ca: Path | None = Field(
        None,
        description="PEM of the CAs whose client certificates are asked for; who proves one may read /-/, too.",
    )
    client_certificate_paths: tuple[Annotated[str, Field(pattern=r"^/[!-~]*$")], ...] = Field(
        ("/admin",),
        description="With client_ca: paths that nobody reaches without such a certificate (403; /-/: 404).",
    )
    acme_directory: str = Field(
        "letsencrypt",
        pattern=r"^(letsencrypt|letsencrypt-staging|https?://.+)$",
        description="mode acme: letsencrypt, letsencrypt-staging, or the directory URL of another authority.",
    )
    acme_email: str = Field("", description="mode acme: address that the authority writes to; may be empty.")
    acme_names: tuple[str, ...] = Field(
        (), description="mode acme: names of the certificate; empty = public host and server_names."
    )
    acme_ca_file: Path | None = Field(
        None,
        description="mode acme: PEM of the CA to trust when talking to the authority; null = the system's.",
    )
    acme_challenge: Literal["http-01", "tls-alpn-01"] = Field(
        "http-01", description="mode acme: http-01 answers on port 80, tls-alpn-01 on port 443."
    )
    acme_eab_kid: str = Field("", description="mode acme: key id of the External Account Binding.")
    acme_eab_key_file: Path | None = Field(
        None, description="mode acme: file with the External Account Binding's HMAC key (base64url)."
    )
    acme_key_type: Literal["ecdsa", "rsa"] = Field(
        "ecdsa", description="mode acme: ecdsa (P-256), or rsa (2048) for very old clients."
    )
    deploy_hook: str = Field(
        "",
        description="mode acme: command line for /bin/sh, run after each new certificate; two minutes at most.",
    )
    redirect: bool = Field(True, description="The plain listener redirects (308) to https.")
    hsts_s: int = Field(0, ge=0, description="max-age of Strict-Transport-Security in seconds; 0 = not sent.")
    hsts_include_subdomains: bool = Field(
        False, description="Add includeSubDomains: https for every host below this name, of whatever program."
    )
    hsts_preload: bool = Field(
        False, description="Add preload: you want browsers to ship with it (docs/certificates.md)."
    )

    @model_validator(mode="after")
    def _hsts_means_something(self) -> Self:
        if self.hsts_include_subdomains and not self.hsts_s:
            raise ValueError("tls.hsts_include_subdomains needs tls.hsts_s: without it nothing is sent")
        if self.hsts_preload and not (self.hsts_include_subdomains and self.hsts_s >= PRELOAD_LEAST_S):
            raise ValueError(
                f"tls.hsts_preload needs tls.hsts_include_subdomains and tls.hsts_s >= {PRELOAD_LEAST_S}:"
                " the list takes no other name"
            )
        return self

    @property
    def hsts(self) -> str:
        """The value of Strict-Transport-Security; empty = it is not sent."""
        if not self.hsts_s:
            return ""
        extras = (("includeSubDomains", self.hsts_include_subdomains), ("preload", self.hsts_preload))
        return "; ".join([f"max-age={self.hsts_s}", *(word for word, is_on in extras if is_on)])
