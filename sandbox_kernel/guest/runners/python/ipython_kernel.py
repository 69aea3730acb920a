"""The little that libraries look for in `get_ipython().kernel`.

Source: ipywidgets 8 (`Output.__enter__`, `register_comm_target`), tqdm, plotly. Whoever
finds no `kernel` there believes to be in a terminal.
"""

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
