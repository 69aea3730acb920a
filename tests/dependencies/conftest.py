import pytest

from tests.support.building import building
from tests.support.sessions import backend

__all__ = ["backend", "building"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where packages are kept: this test's own, and empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sandbox-kernel" / "dependencies"
