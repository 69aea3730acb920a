from tests.support.building import building
from tests.support.open_engines import engine, local_engine, open_engine
from tests.support.sessions import backend, open_session

__all__ = ["backend", "building", "engine", "local_engine", "open_engine", "open_session"]
