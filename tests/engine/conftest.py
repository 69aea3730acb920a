import pytest

from tests.support.building import building
from tests.support.open_engines import engine, local_engine, open_engine
from tests.support.sessions import backend, open_session, patience

__all__ = ["backend", "building", "engine", "local_engine", "open_engine", "open_session"]
__all__ += ["patience"]


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest) -> None:
    """What a session does to code that obeys nothing happens here where a test asks for it."""
    request.getfixturevalue("patience")
