from tests.support.building import building
from tests.support.sessions import backend

__all__ = ["backend", "building"]
