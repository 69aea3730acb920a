"""What a container is given as the guest, and by what it is told apart."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox_kernel import guest
from sandbox_kernel.backends.docker import guest_code

GUEST = Path(guest.__file__).parent


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A guest of two files in place of ours."""
    (tmp_path / "runners").mkdir()
    (tmp_path / "supervisor.py").write_text("pass\n")
    (tmp_path / "runners" / "main.py").write_text("pass\n")
    monkeypatch.setattr(guest_code, "_DIRECTORY", str(tmp_path))
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    guest_code._contents.cache_clear()
    guest_code.digest.cache_clear()


def _digest() -> str:
    _forget()
    return guest_code.digest()


def test_every_module_of_the_guest_is_handed_out_and_nothing_else():
    made = {"__pycache__", ".pyc"}  # by running it, not by us
    expected = {
        path.relative_to(GUEST).as_posix()
        for path in GUEST.rglob("*.*")
        if path.is_file() and not made & {*path.parts, path.suffix}
    }
    files = guest_code.files()
    assert set(files) == expected
    assert "supervisor.py" in files
    assert "runners/python/__main__.py" in files
    assert "runners/interpreter/javascript/cells.js" in files
    assert files["supervisor.py"] == (GUEST / "supervisor.py").read_bytes()


def test_caches_and_editors_leftovers_change_nothing(tree: Path):
    before = _digest()
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__" / "supervisor.py").write_text("cached")
    (tree / "supervisor.py~").write_text("old")
    assert _digest() == before
    assert set(guest_code.files()) == {"supervisor.py", "runners/main.py"}


@pytest.mark.parametrize("change", ["content", "name", "addition", "removal", "border"])
def test_the_digest_changes_with_what_the_guest_is(tree: Path, change: str):
    before = _digest()
    supervisor = tree / "supervisor.py"
    if change == "content":
        supervisor.write_text("pass \n")
    elif change == "name":
        supervisor.rename(tree / "supervisors.py")
    elif change == "addition":
        (tree / "more.py").write_text("")
    elif change == "removal":
        supervisor.unlink()
    else:  # a byte moves from one file to the other
        (tree / "runners" / "main.py").write_text("pass\np")
        supervisor.write_text("ass\n")
    assert _digest() != before


def test_the_digest_is_a_short_word():
    assert re.fullmatch(r"[0-9a-f]{16}", guest_code.digest())


def test_a_start_does_not_pay_for_the_sdk():
    """`docker` costs 0.2 s; this module is on every start's way."""
    code = (
        "import sys; from sandbox_kernel.backends.docker import guest_code; guest_code.digest(); "
        "print([name for name in ('docker', 'requests', 'tarfile', 'json') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
