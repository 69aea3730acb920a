"""Executed notebooks, as nbclient leaves them."""

from __future__ import annotations

from typing import Any

# For `NotebookClient`: seconds for a cell, and from its reply to its idle, after which outputs
# are lost. Two noisy cores take longer than the usual four.
PATIENCE: dict[str, Any] = {"timeout": 100, "iopub_timeout": 60}


def printed(cell: Any) -> str:
    """What a cell printed; where it is cut into outputs is nobody's business."""
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
