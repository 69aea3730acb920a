"""The little that libraries look for in `get_ipython().kernel`.

Source: ipywidgets 8 (`Output.__enter__`, `register_comm_target`), tqdm, plotly. Whoever
finds no `kernel` there believes to be in a terminal.
"""

import sys
from types import ModuleType
from typing import Any, Dict

from .base_shell import Tools


class KernelFace:
    """Says which request is being answered; has no sockets and no keys."""

    implementation = "ipython"
    # Jupyter's own id of the running request, when the host tells it.
    request_id = ""

    def __init__(self, shell: Any, tools: Tools) -> None:
        self.shell = shell
        self._tools = tools

    def get_parent(self, _channel: str = "shell") -> Dict[str, Any]:
        """The request that the calling code works for, in Jupyter's form."""
        header = {"msg_id": self.request_id, "msg_type": "execute_request"}
        return {"header": header, "metadata": {}, "content": {}}

    @property
    def comm_manager(self) -> Any:
        """Where old widget libraries register."""
        import comm

        return comm.get_comm_manager()


def announce_notebook(shell_class: type) -> None:
    """Put a stand-in for `ipykernel.zmqshell` where tqdm and others look for a notebook.

    They look whether it was imported, and what class the shell is. Whoever wants more of
    it gets the real module, where that is installed.
    """
    name = "ipykernel.zmqshell"
    stand_in: Any = ModuleType(name)
    stand_in.ZMQInteractiveShell = shell_class

    def load(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        from importlib import import_module

        sys.modules.pop(name, None)
        try:
            return getattr(import_module(name), attribute)
        except ImportError:
            sys.modules[name] = stand_in
            raise AttributeError(attribute) from None

    stand_in.__getattr__ = load
    sys.modules[name] = stand_in
