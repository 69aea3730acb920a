from tests.support.written_notebooks import notebook

__all__ = ["notebook"]
