"""Owns the settings: each one declared once, with its default, its unit and its meaning.

Reading them from flags, environment and file is ``settings_source.py``.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from gateway.settings_routes import Route
from gateway.settings_s3 import check_bucket, check_endpoint, take_apart
from gateway.settings_section import Seconds, Section, Size
from gateway.settings_tls import Tls

MIB: Final = 1 << 20


def _check_network(text: str) -> str:
    ipaddress.ip_network(text, strict=False)
    return text


def _none_if_empty(text: object) -> object:
    return None if text == "" else text


def _none_or_endpoint(text: str) -> str:
    return check_endpoint(text) if text.strip() else ""


type Network = Annotated[str, AfterValidator(_check_network)]
type Address = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]+):\d{1,5}$")]


class Server(Section):
    """Where the gateway listens, and by which name the world knows it."""

    public_url: str = Field(
        "",
        description="URL that users and clients type, without a slash at its end. Empty: made from the listeners.",
    )
    http: Annotated[Address | None, BeforeValidator(_none_if_empty)] = Field(
        "127.0.0.1:8080", description="ADDR:PORT of the plain listener; empty = none."
    )
    https: Annotated[Address | None, BeforeValidator(_none_if_empty)] = Field(
        "127.0.0.1:8443", description="ADDR:PORT of the TLS listener; empty = none."
    )
    more_http: tuple[Address, ...] = Field((), description="Further plain listeners, like http.")
    more_https: tuple[Address, ...] = Field((), description="Further TLS listeners, like https.")
    http2: bool = Field(False, description="Offer HTTP/2 on the TLS listener; docs/http2.md says for whom.")
    workers: int = Field(1, ge=1, le=256, description="Gateway processes that share the listeners.")
    server_names: tuple[str, ...] = Field(
        (), description="Further host names; each 'www.NAME' is redirected to NAME."
    )
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="Networks (CIDR) whose X-Forwarded-* and Forwarded headers are believed."
    )
    proxy_protocol: tuple[Network, ...] = Field(
        (),
        description="Networks (CIDR) of load balancers whose connections begin with a PROXY header (v1, v2).",
    )
    admin_allow: tuple[Network, ...] = Field(
        (),
        description="Networks (CIDR), beside loopback, that may read /-/ and pass maintenance.",
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Origins whose pages may send resumable uploads (/uploads/); '*' = all."
    )
    uploads_without_version: bool = Field(
        False,
        description="Accept IETF resumable uploads that name no draft version, as the RFC will have them.",
    )
    data_dir: Path = Field(Path("data"), description="Folder of everything the gateway and the core keep.")
    drain_s: Seconds = Field(600.0, description="Seconds that running requests get to finish after SIGTERM.")


class Limits(Section):
    """What one client may ask of the server. Sizes in bytes, times in seconds."""

    head_bytes: Size = Field(
        32 * 1024, description="Largest request head (Apache and nginx accept about this much)."
    )
    target_bytes: Size = Field(8 * 1024, description="Longest request target.")
    head_s: Seconds = Field(20.0, description="Time for a whole request head, however slowly it trickles.")
    keepalive_s: Seconds = Field(75.0, description="How long an idle connection is kept.")
    body_idle_s: Seconds = Field(60.0, description="Longest pause within a request body.")
    body_min_rate: Size = Field(
        1024, description="Least bytes/s of a request body, averaged, after body_min_rate_after_s; 0 = none."
    )
    body_min_rate_after_s: Seconds = Field(60.0, description="Grace before body_min_rate is demanded.")
    write_stall_s: Seconds = Field(60.0, description="Longest time a client may refuse to read an answer.")
    connections: int = Field(4096, ge=1, description="Most open client connections.")
    upload_bytes: Size = Field(0, description="Largest uploaded file; 0 = no limit but the store's.")
    request_body_bytes: Size = Field(
        16 * MIB, description="Largest body of a forwarded API call or page form."
    )
    form_fields: int = Field(100, ge=1, description="Most plain fields of a multipart form.")
    form_files: int = Field(100, ge=1, description="Most files of a multipart form.")
    form_field_bytes: Size = Field(64 * 1024, description="Largest plain field.")
    part_header_bytes: Size = Field(8 * 1024, description="Largest header block of one part.")
    uploads: int = Field(1024, ge=1, description="Most uploads at once; more get 429.")
    buffer_bytes: Size = Field(40 * MIB, description="Most memory of all upload buffers of one process.")


class Disk(Section):
    """The disk store."""

    root: Path | None = Field(None, description="Folder that holds blobs/; null = the data folder.")
    reserve_bytes: Size = Field(
        256 * MIB, description="Room always left free: an upload that would eat into it gets 507."
    )
    fsync: bool = Field(True, description="Make every image durable before it is confirmed.")


class S3(Section):
    """The S3 store (MinIO, SeaweedFS, Ceph, AWS)."""

    endpoint: Annotated[str, AfterValidator(check_endpoint)] = Field(
        "minio:9000",
        description="HOST:PORT that the gateway talks to (MINIO_SERVER); with http:// or https://, it sets ssl too.",
    )
    external_endpoint: Annotated[str, AfterValidator(_none_or_endpoint)] = Field(
        "", description="HOST:PORT in links for clients, direct mode (MINIO_EXTERNAL_SERVER)."
    )
    external_ssl: Literal["same", "on", "off"] = Field(
        "same", description="Whether clients reach the external endpoint by TLS; same = as ssl says."
    )
    bucket: Annotated[str, AfterValidator(check_bucket)] = Field(
        "sregistry", description="Bucket; made if it is missing (MINIO_BUCKET)."
    )
    region: str = Field("us-east-1", description="Region (MINIO_REGION).")
    ssl: bool = Field(False, description="Talk TLS to the endpoint (MINIO_SSL).")
    ca_file: Path | None = Field(None, description="CA that signed the endpoint's certificate.")
    access_key: SecretStr = Field(
        SecretStr(""), description="Access key; only by environment (MINIO_ROOT_USER) or access_key_file."
    )
    access_key_file: Path | None = Field(None, description="File that holds the access key.")
    secret_key: SecretStr = Field(
        SecretStr(""), description="Secret key; only by environment (MINIO_ROOT_PASSWORD) or secret_key_file."
    )
    secret_key_file: Path | None = Field(None, description="File that holds the secret key.")
    previous_access_key: SecretStr = Field(
        SecretStr(""), description="The old access key while keys are rotated; environment, or …_file."
    )
    previous_access_key_file: Path | None = Field(None, description="File that holds the old access key.")
    previous_secret_key: SecretStr = Field(
        SecretStr(""), description="The old secret key while keys are rotated; environment, or …_file."
    )
    previous_secret_key_file: Path | None = Field(None, description="File that holds the old secret key.")
    direct: bool = Field(False, description="Send clients to the external endpoint with presigned URLs.")
    signed_url_expire_minutes: int = Field(
        5, ge=1, le=10080, description="Life of presigned URLs (MINIO_SIGNED_URL_EXPIRE_MINUTES)."
    )
    multipart_upload: bool = Field(
        True, description="Offer multipart pushes to clients (MINIO_MULTIPART_UPLOAD)."
    )
    part_bytes: Size = Field(
        16 * MIB, description="First part size of our own uploads; grows for very large files."
    )

    @model_validator(mode="before")
    @classmethod
    def _schemes_are_settings(cls, values: Any) -> Any:
        return take_apart(values) if isinstance(values, dict) else values


class Storage(Section):
    """Where images are kept."""

    kind: Literal["disk", "s3"] = Field("disk", description="disk or s3.")
    cleanup: bool = Field(
        True, description="Remove bytes that no image refers to (DISABLE_MINIO_CLEANUP turns it off)."
    )
    disk: Disk = Disk()
    s3: S3 = S3()


class Core(Section):
    """The registry core behind the gateway."""

    url: str = Field(
        "",
        description="http://HOST:PORT or unix:/path of a core run elsewhere; empty = the gateway runs its own.",
    )
    secret_file: Path | None = Field(
        None, description="The secret shared by gateway and core; null = made in the data folder."
    )
    connections: int = Field(64, ge=1, description="Most connections of one process to the core.")
    connect_s: Seconds = Field(2.0, description="Seconds to connect.")
    hold_s: Seconds = Field(
        0.6, description="Seconds a request waits for a core that restarts, before the maintenance page."
    )
    start_hold_s: Seconds = Field(
        10.0, description="The same while a core of our own starts for the first time."
    )
    head_s: Seconds = Field(60.0, description="Seconds until the core must have begun to answer.")
    idle_s: Seconds = Field(60.0, description="Longest pause within an answer of the core.")
    max_fails: int = Field(
        3,
        ge=0,
        description="Requests in a row without an answer in time after which it is spared; 0 = never.",
    )
    slow_s: float = Field(
        0, ge=0, description="An answer that begins later than this is slow: half of them, and it is spared."
    )


class Maintenance(Section):
    """The maintenance page."""

    page: Path | None = Field(
        None,
        description="A page of your own: a file, or a folder with index.html or 503.html; null = the folder"
        " 'maintenance' beside this file, if it has one of them, else the built-in page.",
    )
    retry_after_s: int = Field(30, ge=1, description="Retry-After when no end of the maintenance is known.")
    spool: bool = Field(
        False,
        description="Take uploads of those whom the core allowed lately, while it is away or all is closed.",
    )
    spool_known_s: Seconds = Field(
        3600.0, description="How long after the core's last yes an upload is taken without it."
    )
    spool_uploads: int = Field(100, ge=1, description="Most uploads that may wait for the core.")
    spool_bytes: Size = Field(20 << 30, description="Most bytes that may wait for the core.")
    spool_age_s: Seconds = Field(
        259200.0, description="Uploads that waited longer for the core are refused and thrown away."
    )


class Registry(Section):
    """The registry that users see."""

    name: str = Field("Singularity Registry", description="Name on pages.")
    uri: str = Field("", description="Short name in pull commands; empty = the public host.")
    contact: str = Field("", description="E-mail address or URL for help, shown on pages.")
    database_url: str = Field("", description="SQLAlchemy URL; empty = SQLite in the data folder.")
    accounts: Literal["open", "closed"] = Field(
        "closed", description="open = anybody may sign up; closed = an administrator makes accounts."
    )
    anonymous_pull: bool = Field(True, description="Public collections can be pulled without a token.")
    default_private: bool = Field(False, description="New collections are private.")
    part_bytes: Size = Field(64 * MIB, description="Part size of library pushes above 64 MiB.")
    ticket_s: Seconds = Field(86400.0, description="Seconds within which a granted upload must begin.")
    link_s: Seconds = Field(43200.0, description="Seconds that a download link works (a whole pull).")
    quota_bytes: Size = Field(
        0, description="Bytes that an entity may hold unless it has a quota of its own; 0 = no limit."
    )
    trash_s: Seconds = Field(
        604800.0, description="Seconds that the bytes of a deleted image are kept before gc removes them."
    )
    session_s: Seconds = Field(1209600.0, description="Seconds that a browser stays signed in.")
    token_requests_per_s: float = Field(
        500.0,
        ge=0,
        description="Requests/s of one token in the long run (a minute's worth at once); 0 = no limit.",
    )
    address_requests_per_s: float = Field(
        300.0, ge=0, description="The same for one address without a token; 0 = no limit."
    )
    oidc_issuer: str = Field("", description="Issuer URL of an OpenID Connect provider to sign in with.")
    oidc_name: str = Field("single sign-on", description="The provider's name on the sign-in page.")
    oidc_client_id: str = Field("", description="The client id that the provider gave us.")
    oidc_client_secret_file: Path | None = Field(
        None, description="File with the client secret; null = a public client."
    )
    oidc_user_claim: str = Field("preferred_username", description="Claim that names new accounts.")
    sign_in_header: str = Field(
        "", description="Header in which a forward-auth proxy names the user; needs sign_in_secret_file."
    )
    sign_in_secret_file: Path | None = Field(
        None, description="File with the secret that the proxy sends in X-Sign-In-Secret."
    )
    keyserver: str = Field("https://keys.openpgp.org", description="Key server that clients are told to use.")


class Log(Section):
    """The log, on standard error."""

    format: Literal["text", "json"] = Field("text", description="text for people, json for machines.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level written.")
    access: bool = Field(True, description="One line for every request.")


class Settings(Section):
    """Everything that can be set. Made once by ``settings_source.load``; modules get the section they need."""

    server: Server = Server()
    tls: Tls = Tls()
    limits: Limits = Limits()
    storage: Storage = Storage()
    core: Core = Core()
    maintenance: Maintenance = Maintenance()
    registry: Registry = Registry()
    log: Log = Log()
    routes: tuple[Route, ...] = Field(
        (), description="[[routes]] tables: uploads and forwarding for any other backend."
    )

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        if self.tls.mode == "files" and not (self.tls.certificate and self.tls.key):
            raise ValueError("tls.mode = 'files' needs tls.certificate and tls.key")
        if bool(self.registry.oidc_issuer) != bool(self.registry.oidc_client_id):
            raise ValueError("registry.oidc_issuer and registry.oidc_client_id belong together")
        if self.registry.sign_in_header and not self.registry.sign_in_secret_file:
            raise ValueError("registry.sign_in_header needs registry.sign_in_secret_file")
        if not self.server.http and not (self.server.https and self.tls.mode != "off"):
            raise ValueError("nothing to listen on: set server.http, or server.https with a tls.mode")
        return self

    @property
    def public_url(self) -> str:
        """The URL of the front door, without a slash at its end."""
        if self.server.public_url:
            return self.server.public_url.rstrip("/")
        if self.tls.mode != "off" and self.server.https:
            return "https://localhost" + _port_suffix(self.server.https, 443)
        return "http://localhost" + _port_suffix(self.server.http or ":80", 80)

    @property
    def data_dir(self) -> Path:
        """Folder of everything that is kept."""
        return self.server.data_dir

    @property
    def secret_file(self) -> Path:
        """The secret shared by gateway and core."""
        return self.core.secret_file or self.data_dir / "secrets" / "internal.key"

    @property
    def part_bytes(self) -> int:
        """Most memory for parts on their way to S3: half of what buffers may take."""
        return self.limits.buffer_bytes // 2

    @property
    def block_bytes(self) -> int:
        """Most memory for what clients send: the other half where files go to S3, all of it where none do."""
        has_s3 = self.storage.kind == "s3" or any(route.store_s3 for route in self.routes)
        return self.limits.buffer_bytes - (self.part_bytes if has_s3 else 0)

    @property
    def store_root(self) -> Path:
        """Root of the disk store."""
        return self.storage.disk.root or self.data_dir

    @property
    def core_socket(self) -> Path:
        """The unix socket of a core that the gateway runs itself."""
        return self.data_dir / "run" / "core.sock"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the registry's database."""
        return self.registry.database_url or f"sqlite:///{self.data_dir / 'registry.db'}"


def _port_suffix(address: str, default: int) -> str:
    port = int(address.rpartition(":")[2])
    return "" if port == default else f":{port}"
