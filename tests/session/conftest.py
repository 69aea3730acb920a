from tests.support.sessions import backend, open_session

__all__ = ["backend", "open_session"]
