"""Owns which nginx directives are translated, which are harmless, and what is said of all others. Pure.

Whatever is not listed here is named: a directive that nobody thought of must not be lost silently.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.nginx_config import Directive
from gateway.nginx_result import Imported

# What the other modules of the import read.
_TRANSLATED: Final = frozenset(
    (
        "http", "server", "location", "upstream", "listen", "server_name", "ssl_certificate", "ssl_certificate_key",
        "client_max_body_size", "internal", "auth_request", "proxy_pass", "uwsgi_pass", "fastcgi_pass",
        "scgi_pass", "grpc_pass",
        "upload_store", "upload_store_access", "upload_max_file_size", "upload_max_output_body_len",
        "upload_max_part_header_len", "upload_limit_rate", "upload_tame_arrays", "upload_pass_args",
        "upload_pass_form_field", "upload_set_form_field", "upload_aggregate_form_field", "upload_cleanup",
    )
)  # fmt: skip

# What changes neither who may do what nor what is answered, or what the gateway does by itself.
_HARMLESS: Final = frozenset(
    (
        "events", "user", "pid", "daemon", "master_process", "env", "load_module", "pcre_jit", "lock_file",
        "thread_pool", "timer_resolution",
        "access_log", "error_log", "log_format", "log_not_found", "log_subrequest", "rewrite_log",
        "sendfile", "sendfile_max_chunk", "aio", "aio_write", "directio", "directio_alignment", "read_ahead",
        "types", "default_type", "charset", "charset_types", "override_charset", "server_tokens",
        "server_name_in_redirect", "port_in_redirect", "absolute_redirect", "http2", "merge_slashes", "etag",
        "client_body_timeout", "client_body_buffer_size", "client_body_temp_path", "client_body_in_single_buffer",
        "send_timeout", "send_lowat", "reset_timedout_connection", "chunked_transfer_encoding", "resolver",
        "large_client_header_buffers", "connection_pool_size", "request_pool_size", "postpone_output",
        "resolver_timeout", "ssl_prefer_server_ciphers", "ssl_dhparam", "ssl_buffer_size",
        # They only make variables: whatever uses one is named.
        "set", "map", "geo", "split_clients", "uninitialized_variable_warn",
        # Of the module: sizes of its buffers, and where what upload_resumable keeps would be.
        "upload_buffer_size", "upload_merge_buffer_size", "upload_range_header_buffer_size", "upload_state_store",
        "upload_empty_fiels_names",
    )
)  # fmt: skip
_HARMLESS_FAMILIES: Final = (
    "worker_", "tcp_", "keepalive_", "gzip", "brotli", "open_file_cache", "open_log_file_cache", "lingering_",
    "client_header_", "http2_", "ssl_session_", "types_hash_", "server_names_hash_", "variables_hash_",
    "map_hash_", "output_buffers",
)  # fmt: skip

# The same of proxy_, uwsgi_, fastcgi_, scgi_ and grpc_.
_TO_BACKEND: Final = re.compile(r"(?:proxy|uwsgi|fastcgi|scgi|grpc)_(.+)")
_HARMLESS_TO_BACKEND: Final = frozenset(
    (
        "buffering", "buffers", "buffer_size", "busy_buffers_size", "request_buffering", "http_version",
        "temp_path", "temp_file_write_size", "max_temp_file_size", "headers_hash_max_size",
        "headers_hash_bucket_size", "socket_keepalive", "split_path_info", "index",
    )
)  # fmt: skip
_TIMEOUTS: Final = frozenset(("connect_timeout", "read_timeout", "send_timeout"))
# What the gateway tells every backend, or what a request says anyway.
_SENT_ANYWAY: Final = frozenset(
    (
        ("host", "$host"), ("host", "$http_host"), ("host", "$host:$server_port"),
        ("x-real-ip", "$remote_addr"),
        ("x-forwarded-for", "$proxy_add_x_forwarded_for"), ("x-forwarded-for", "$remote_addr"),
        ("x-forwarded-proto", "$scheme"), ("x-forwarded-host", "$host"), ("x-forwarded-host", "$http_host"),
        ("x-request-id", "$request_id"),
        ("upgrade", "$http_upgrade"), ("connection", "upgrade"), ("connection", "$connection_upgrade"),
        ("connection", ""),
    )
)  # fmt: skip
_CGI_NAMES: Final = frozenset(
    (
        "QUERY_STRING", "REQUEST_METHOD", "CONTENT_TYPE", "CONTENT_LENGTH", "REQUEST_URI", "PATH_INFO",
        "DOCUMENT_ROOT", "DOCUMENT_URI", "SERVER_PROTOCOL", "REQUEST_SCHEME", "HTTPS", "REMOTE_ADDR",
        "REMOTE_PORT", "SERVER_PORT", "SERVER_NAME", "SERVER_ADDR", "SERVER_SOFTWARE", "GATEWAY_INTERFACE",
        "SCRIPT_NAME", "SCRIPT_FILENAME", "REDIRECT_STATUS", "UWSGI_SCHEME",
    )
)  # fmt: skip

OPEN: Final = "whom nginx refuses is let in here"
# Who may do what. Lost, these open what was closed.
_ACCESS: Final = {
    "allow": "addresses are not limited",
    "deny": "addresses are not limited",
    "satisfy": "there are no access rules to choose from",
    "auth_basic": "passwords are not asked by the gateway; use auth_url",
    "auth_basic_user_file": "passwords are not asked by the gateway; use auth_url",
    "auth_delay": "passwords are not asked by the gateway; use auth_url",
    "auth_jwt": "tokens are not read by the gateway; use auth_url",
    "auth_request": "the question is asked only where a route begins",
    "limit_except": "methods are not limited",
    "valid_referers": "referers are not looked at",
    "secure_link": "signed links are not read",
    "secure_link_md5": "signed links are not read",
    "ssl_client_certificate": "set tls.client_ca and tls.client_certificate_paths",
    "ssl_verify_client": "set tls.client_ca and tls.client_certificate_paths",
}
_PROGRESS: Final = "progress is asked at /-/uploads (docs/upload-routes.md)"
_WHY: Final = {
    "upload_resumable": "uploads that can be resumed are at /uploads/ (tus), with another protocol",
    "upload_add_header": "no header is added to answers",
    "upload_pass": "only a location's own upload_pass makes a route",
    "track_uploads": _PROGRESS,
    "report_uploads": _PROGRESS,
    "upload_progress": _PROGRESS,
    "if": "conditions have no counterpart",
    "return": "the gateway makes no such answer",
    "rewrite": "paths are not rewritten",
    "try_files": "files are not served",
    "root": "files are not served",
    "alias": "files are not served",
    "index": "files are not served",
    "autoindex": "files are not served",
    "add_header": "no header is added to answers",
    "expires": "no header is added to answers",
    "error_page": "answers are not replaced",
    "limit_rate": "answers are not slowed down",
    "ssl_protocols": "tls.profile decides: intermediate or modern",
    "ssl_ciphers": "tls.profile decides: intermediate or modern",
    "ssl_ecdh_curve": "tls.profile decides: intermediate or modern",
    "set_real_ip_from": "set server.trusted_proxies",
    "real_ip_header": "set server.trusted_proxies",
    "stream": "only HTTP is passed on",
    "mail": "only HTTP is passed on",
}
_WHY_OF_FAMILIES: Final = (
    ("upload_progress_", _PROGRESS),
    ("limit_req", "requests are not rated"),
    ("limit_conn", "connections of one client are not counted"),
)


def note_losses(
    made: Imported, directives: Iterable[Directive], *, told: frozenset[str] = frozenset()
) -> None:
    """Name what is neither translated nor harmless. ``told`` are names that another note speaks of already."""
    for directive in directives:
        why = "" if directive.name in told else loss(directive)
        if why:
            made.note(f"{directive.place}: '{' '.join((directive.name, *directive.args))}': {why}")


def note_unread(made: Imported, directives: Iterable[Directive]) -> None:
    """Name every file that an include could not read, on every level."""
    for directive in all_within(directives):
        if directive.unread:
            made.note(
                f"{directive.place}: could not read '{directive.args[0]}' ({directive.unread});"
                " what stands in it is not translated"
            )


def loss(directive: Directive) -> str:
    """What is lost with this directive alone; "" if nothing is."""
    name, args = directive.name, directive.args
    if name in _TRANSLATED or name in _HARMLESS or name.startswith(_HARMLESS_FAMILIES) or directive.unread:
        return ""
    if args == ("off",) or (name, args) in {("allow", ("all",)), ("satisfy", ("all",))}:
        return ""
    if name in _ACCESS:
        return f"{_ACCESS[name]}; {OPEN}"
    passed = _TO_BACKEND.fullmatch(name)
    if passed:
        return _loss_to_backend(passed[1], args)
    if name == "if" and any(map(_refuses, all_within(directive.block or ()))):
        return f"{_WHY[name]}; {OPEN}"
    family = next((why for start, why in _WHY_OF_FAMILIES if name.startswith(start)), "it has no counterpart")
    return _WHY.get(name, family)


def auth_loss(directive: Directive) -> str:
    """What is lost with an ``auth_request`` where no route begins."""
    return "" if directive.args == ("off",) else f"{_ACCESS['auth_request']}; {OPEN}"


def _loss_to_backend(rest: str, args: tuple[str, ...]) -> str:
    if rest in _HARMLESS_TO_BACKEND:
        return ""
    if rest in _TIMEOUTS:
        return "core.connect_s, core.head_s and core.idle_s are the timeouts of all backends"
    if rest == "set_header":
        is_sent = len(args) == 2 and (args[0].lower(), args[1].lower()) in _SENT_ANYWAY  # noqa: PLR2004
        return "" if is_sent else "no header is set (docs/forwarding.md says which are)"
    if rest == "param":
        return "" if args and args[0] in _CGI_NAMES else "the backend is not told"
    return "it has no counterpart"


def _refuses(directive: Directive) -> bool:
    return directive.name in {*_ACCESS, "internal"} or (
        directive.name == "return" and directive.args[:1] != () and directive.args[0].startswith("4")
    )


def all_within(directives: Iterable[Directive]) -> Iterator[Directive]:
    """These and all within their blocks."""
    for directive in directives:
        yield directive
        yield from all_within(directive.block or ())
