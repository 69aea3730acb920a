from tests.support.building import building
from tests.support.sessions import backend, open_session

__all__ = ["backend", "building", "open_session"]
