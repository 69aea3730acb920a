import pytest

from tests.support.building import building
from tests.support.sessions import backend, open_session, patience

__all__ = ["backend", "building", "open_session", "patience"]


@pytest.fixture(autouse=True)
def patient(patience: None) -> None:
    """How long a session waits before it kills is not the point of most tests here."""
