"""Owns the proof of the maintenance page: what replaces it, what is filled in, and which files come with it."""

import os
from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.http.head import NO_BODY, Fields, RequestHead
from gateway.maintenance import MaintenanceAnswers, MaintenanceState
from gateway.maintenance_page import MaintenancePage, page_file
from gateway.settings import Settings
from gateway.settings_source import load
from tests.support.fake_exchange import make_head

BROWSER = ("accept", "text/html")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a page of one's own."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "503.html").write_text("<p>{{name}}: {{message}}")
    return folder


def shown(page: Path | None, state: MaintenanceState | None = None) -> str:
    settings = Settings.model_validate({"maintenance": {"page": page}})
    return MaintenanceAnswers(settings).answer(state, make_head("GET", "/", BROWSER), "r").body.decode()


def test_a_page_of_ones_own_replaces_it(own: Path) -> None:
    assert shown(own, MaintenanceState(message="Hi")) == "<p>Singularity Registry: Hi"
    (own / "503.html").rename(own / "index.html")
    assert shown(own, MaintenanceState(message="Hi")) == "<p>Singularity Registry: Hi"


@pytest.mark.parametrize("text", ["{{name}}", "{{ name }}", "{{\tname  }}", "{{ name}}"])
def test_placeholders_may_have_spaces(own: Path, text: str) -> None:
    (own / "503.html").write_text(f"<p>{text}</p>")
    assert shown(own) == "<p>Singularity Registry</p>"


def test_what_is_no_placeholder_stays_as_it_is(own: Path) -> None:
    text = "{{nobody}} {{ else }} {name} {{{}}} {{ na me }}"
    (own / "503.html").write_text(text)
    assert shown(own) == text


def test_a_message_is_never_taken_for_a_placeholder(own: Path) -> None:
    assert shown(own, MaintenanceState(message="{{ name }} {{request_id}}")).endswith(
        ": {{ name }} {{request_id}}"
    )


def test_a_wrong_byte_in_the_page_does_not_keep_the_door_from_opening(own: Path) -> None:
    (own / "503.html").write_bytes(b"caf\xe9 {{ name }}")
    assert shown(own) == "caf\N{REPLACEMENT CHARACTER} Singularity Registry"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("logo.svg", "image/svg+xml"),
        ("LOGO.PNG", "image/png"),
        ("a.gif", "image/gif"),
        ("a.jpg", "image/jpeg"),
        ("a.jpeg", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("favicon.ico", "image/x-icon"),
        ("a.woff", "font/woff"),
        ("a.woff2", "font/woff2"),
        ("robots.txt", "text/plain; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a-b_c.min.css", "text/css; charset=utf-8"),
        ("assets/deep/er/s.css", "text/css; charset=utf-8"),
        ("my logo.png", "image/png"),
    ],
)
def test_its_files_come_with_it(own: Path, name: str, kind: str) -> None:
    file = own / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"content")
    reply = MaintenancePage(own).asset("/maintenance/" + name.replace(" ", "%20"))
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"content")
    fields = dict(reply.fields)
    assert fields["content-type"] == kind
    assert fields["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/maintenance/",
        "/maintenance/none.css",
        "/maintenance/503.html",
        "/maintenance/program.php",
        "/maintenance/.hidden.css",
        "/maintenance/.git/s.css",
        "/maintenance/../outside.css",
        "/maintenance/assets/../../outside.css",
        "/maintenance/%2e%2e/outside.css",
        "/maintenance/..%2foutside.css",
        "/maintenance/..%5coutside.css",
        "/maintenance/assets//s.css",
        "/maintenance//s.css",
        "/maintenance//etc/s.css",
        "/maintenance/assets%2fs.css",
        "/maintenance/s.css%00.css",
        "/maintenance/assets",
        "/maintenance/folder.css",
        "/maintenance/pipe.css",
        "/maintenance/away.css",
        "/maintenance/away/outside.css",
        "/maintenance/gone.css",
        "/maintenance/circle.css",
        "/maintenance/large.css",
        "/maintenance",
        "/maintenances/s.css",
        "/other/s.css",
    ],
)
def test_nothing_else_does(own: Path, path: str) -> None:
    outside = own.parent / "outside.css"
    outside.write_text("no")
    (own / "assets").mkdir()
    (own / ".git").mkdir()
    (own / "folder.css").mkdir()
    for name in ("s.css", "assets/s.css", ".git/s.css", ".hidden.css", "program.php"):
        (own / name).write_text("no")
    os.mkfifo(own / "pipe.css")
    (own / "away.css").symlink_to(outside)
    (own / "away").symlink_to(own.parent)
    (own / "gone.css").symlink_to(own / "nowhere.css")
    (own / "circle.css").symlink_to(own / "circle.css")
    with (own / "large.css").open("wb") as file:
        file.truncate(1 << 30)
    assert MaintenancePage(own).asset(path) is None


def test_a_link_within_the_folder_is_followed(own: Path) -> None:
    """As Kubernetes lays out what it mounts."""
    (own / "..data").mkdir()
    (own / "..data" / "s.css").write_text("body{}")
    (own / "s.css").symlink_to(Path("..data", "s.css"))
    reply = MaintenancePage(own).asset("/maintenance/s.css")
    assert reply is not None
    assert reply.body == b"body{}"


def test_only_who_reads_gets_them(own: Path) -> None:
    (own / "s.css").touch()
    answers = MaintenanceAnswers(Settings.model_validate({"maintenance": {"page": own}}))
    for method, is_there in (("GET", True), ("HEAD", True), ("POST", False), ("DELETE", False)):
        head = RequestHead(method=method, target="/maintenance/s.css?v=2", fields=Fields(), framing=NO_BODY)
        assert (answers.asset(head) is not None) is is_there


def test_the_built_in_page_has_no_files(own: Path) -> None:
    (own / "logo.svg").touch()
    assert MaintenancePage(None).asset("/maintenance/logo.svg") is None
    assert MaintenancePage(own / "503.html").asset("/maintenance/logo.svg") is None


def test_the_built_in_page_asks_nobody_else_for_anything() -> None:
    text = page_file(None).read_text()
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert "@import" not in text


class TestBesideTheSettings:
    """A folder ``maintenance`` next to the settings' file."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        """Settings that say nothing of a page."""
        file = tmp_path / "etc" / "gateway.toml"
        file.parent.mkdir()
        file.write_text("[maintenance]\nretry_after_s = 7\n")
        return file

    @pytest.mark.parametrize("name", ["index.html", "503.html"])
    def test_it_is_found_by_itself(self, file: Path, name: str) -> None:
        folder = file.parent / "maintenance"
        folder.mkdir()
        (folder / name).write_text("<p>{{ name }}")
        loaded = load(file=file, environ={})
        assert loaded.settings.maintenance.page == folder
        assert loaded.settings.maintenance.retry_after_s == 7
        assert "found beside" in loaded.origins["maintenance.page"]
        assert shown(loaded.settings.maintenance.page) == "<p>Singularity Registry"

    def test_what_is_set_wins(self, file: Path, own: Path) -> None:
        (file.parent / "maintenance").mkdir()
        (file.parent / "maintenance" / "index.html").touch()
        environ = {"GATEWAY_MAINTENANCE__PAGE": str(own)}
        assert load(file=file, environ=environ).settings.maintenance.page == own
        file.write_text(f'[maintenance]\npage = "{own}"\n')
        assert load(file=file, environ={}).settings.maintenance.page == own

    def test_a_folder_without_a_page_is_none(self, file: Path) -> None:
        (file.parent / "maintenance").mkdir()
        (file.parent / "maintenance" / "s.css").touch()
        (file.parent / "maintenance" / "index.html").mkdir()
        assert load(file=file, environ={}).settings.maintenance.page is None

    def test_without_a_file_of_settings_there_is_nothing_beside_it(self) -> None:
        assert load(environ={}).settings.maintenance.page is None

    def test_a_mistake_in_the_settings_is_still_told(self, file: Path) -> None:
        (file.parent / "maintenance").mkdir()
        (file.parent / "maintenance" / "index.html").touch()
        file.write_text("[maintenance]\nretry_after_s = 0\n")
        with pytest.raises(SettingsError, match="retry_after_s"):
            load(file=file, environ={})
