"""Does something right after a module is imported, whenever user code first does so.

For what must be changed in modules that most cells never import and that would cost
a start dearly.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, Callable, Dict, Optional, Sequence


class AfterImport:
    """A finder at the head of `sys.meta_path`; `watch` says what to do after which import."""

    def __init__(self) -> None:
        self._actions: Dict[str, Callable[[], None]] = {}

    def install(self) -> None:
        """Begin to watch."""
        sys.meta_path.insert(0, self)

    def watch(self, name: str, action: Callable[[], None]) -> None:
        """Call `action` once after `name` was imported; at once if it was already."""
        if name in sys.modules:
            action()
        else:
            self._actions[name] = action

    def find_spec(
        self, name: str, path: Optional[Sequence[str]] = None, target: Any = None
    ) -> Optional[ModuleSpec]:
        """Python asks before each import; we answer for the names we watch."""
        if name not in self._actions:
            return None
        action = self._actions.pop(name)
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            self._actions[name] = action
            return None
        _call_after(spec.loader, action)
        return spec


def _call_after(loader: Any, action: Callable[[], None]) -> None:
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        # The module's loader is seen by user code (inspect, pickle): leave it as it was.
        del loader.exec_module
        execute(module)
        action()

    loader.exec_module = exec_module
