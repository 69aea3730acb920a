"""Questions of front ends that a kernel answers late or not at all, asked as they ask them."""

from __future__ import annotations

from typing import Any

from tests.support.kernels import Client
from tests.support.waiting import until


def is_complete(client: Client, code: str) -> dict[str, Any]:
    """What the guest says of `code`. The kernel says "unknown" for one that needs too long."""

    def ask() -> dict[str, Any] | None:
        content: dict[str, Any] = client.request("is_complete_request", {"code": code})["content"]
        return content if content["status"] != "unknown" else None

    return until(ask, f"an answer about {code!r}") or {}
