"""Leaves out what traitlets imports for programs that configure logging: 4 ms of the start."""

import sys
from types import ModuleType
from typing import Any


def import_traitlets() -> None:
    """Import what IPython is made of, with a stand-in for `logging.config` meanwhile."""
    name = "logging.config"
    if name in sys.modules:
        return
    stand_in: Any = ModuleType(name)
    stand_in.dictConfig = _dict_config
    sys.modules[name] = stand_in
    try:
        import traitlets.config  # noqa: F401
    finally:
        # Nobody else gets it: whoever imports the module from now on gets the real one.
        sys.modules.pop(name, None)
        vars(sys.modules.get("logging", stand_in)).pop("config", None)


def _dict_config(config: Any) -> None:
    from logging.config import dictConfig

    dictConfig(config)
