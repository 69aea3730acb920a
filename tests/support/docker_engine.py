"""Docker Engine as the tests see it: whether it must be there, and what of ours is on it.

Rule 1: it is asked once whether it is usable, and cheaply; no test waits for `check()`.
Rule 2: others may use the same engine: only containers that a process of this test run
owns are looked at, and none is ended by name.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import pytest

from tests.support.waiting import until

# What `tests/run.py` sets where the tests that need an engine may not be skipped. The kernels
# under test refuse variables of their own prefix that they don't know, so it gets another name.
REQUIRE = "SANDBOX_KERNEL_TESTS_REQUIRE"
_REQUIRE_KEPT = "SANDBOX_TEST_REQUIRE"


def keep_requirement() -> None:
    """Remember what this run requires; before the variables of kernels are removed."""
    if REQUIRE in os.environ:
        os.environ[_REQUIRE_KEPT] = os.environ[REQUIRE]


def is_required() -> bool:
    return "docker" in os.environ.get(_REQUIRE_KEPT, "").split(",")


def require() -> None:
    """Skip the test when there is no engine to run it on, or fail where one is required."""
    if reason := problem():
        (pytest.fail if is_required() else pytest.skip)(f"docker: {reason}")


def require_image(name: str) -> None:
    """Skip the test when the engine has no such image, or fail where an engine is required."""
    if not _has_image(name):
        reason = f"docker: there is no image {name}. Make it with: sandbox-kernel setup docker"
        (pytest.fail if is_required() else pytest.skip)(reason)


@cache
def _has_image(name: str) -> bool:
    return bool(api().images(name))


@cache
def problem() -> str:
    """Why nothing can be tested with the engine, or ""."""
    from docker.errors import DockerException

    from sandbox_kernel import languages
    from sandbox_kernel.errors import BackendUnavailable

    image = languages.get("python").image
    try:
        if not api().images(image):
            return f"There is no image {image}. Make it with: sandbox-kernel setup docker"
    except (BackendUnavailable, DockerException, OSError) as error:
        return str(error)
    return ""


@cache
def api() -> Any:
    """A client of the tests' own."""
    from sandbox_kernel.backends.docker import engine

    return engine.connect()


def inspect(container_id: str) -> dict[str, Any]:
    """What the engine knows of one container."""
    found: dict[str, Any] = api().inspect_container(container_id)
    return found


def uids(container_id: str) -> set[int]:
    """The users of all processes of a container, as its engine's machine counts them."""
    told = api().top(container_id, ps_args="-eo pid,uid")
    column = [title.upper() for title in told["Titles"]].index("UID")
    return {int(row[column]) for row in told["Processes"]}


def containers_of(*pids: int) -> list[str]:
    """A line for each container, running or not, whose owner is one of these processes."""
    from sandbox_kernel.backends.docker.owners import OWNER_LABEL

    found = api().containers(all=True, filters={"label": OWNER_LABEL})
    return [
        f"{item['Id'][:12]} {item['State']}"
        for item in found
        if item["Labels"][OWNER_LABEL].split("/")[3] in map(str, pids)
    ]


def assert_nothing_left_of(pid: int) -> None:
    """Who closed all its sandboxes has no container, as soon as the engine has removed them."""
    until(lambda: not containers_of(pid), "the engine to remove containers")
