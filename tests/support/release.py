"""Owns a next release of this product for tests: a copy of the code that Python finds before the installed one."""

import shutil
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_MIGRATION: Final = '''"""A table more, and as slow as on a large database."""

import time

import sqlalchemy as sa
from alembic import op

revision = "{new}"
down_revision = "{old}"


def upgrade() -> None:
    op.create_table("release_{new}", sa.Column("id", sa.Integer(), primary_key=True))
    time.sleep({seconds})
    {last}
'''
SAYS: Final = "a next release is ready"


class ReleaseFolder:
    """Where releases are installed. ``environ`` makes a product look there first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.environ: Final = {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}

    def install(self, *, seconds: float = 0.0, migration_fails: bool = False) -> str:
        """Install a release with one migration more than this one, which takes so long; its revision."""
        from registry_core.repo.migrate import HEAD  # loads SQLAlchemy, and not every test needs it

        new = f"{int(HEAD) + 1:04}"
        for name in ("gateway", "registry_core", "maintenance", "conf"):
            shutil.copytree(_ROOT / name, self._folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        core = self._folder / "registry_core" / "repo"
        text = _MIGRATION.format(
            new=new,
            old=HEAD,
            seconds=seconds,
            last='raise RuntimeError("a row that nobody foresaw")' if migration_fails else "",
        )
        (core / "versions" / f"{new}_next.py").write_text(text)
        _change(core / "migrate.py", f'"{HEAD}"', f'"{new}"')
        _change(self._folder / "gateway" / "app.py", '(f"ready: ', f'(f"{SAYS}: ')
        return new

    def spoil_gateway(self) -> None:
        """The gateway of the release does not start."""
        _change(self._folder / "gateway" / "app.py", "import asyncio", "import a_package_nobody_installed")

    def remove(self) -> None:
        """Install the release that was before."""
        for folder in self._folder.iterdir():
            shutil.rmtree(folder)


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, f"{file} has no {old}"
    file.write_text(text.replace(old, new, 1))
