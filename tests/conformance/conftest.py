"""Every module here runs on every backend, with kernels that its tests share.

A module that is about the host's side alone says so in its docstring, and overrides
`kernel_backend`.
"""

from __future__ import annotations

import pytest

from tests.support import docker_engine
from tests.support.kernels import IS_OURS


@pytest.fixture(scope="module", params=["auto", "docker"])
def kernel_backend(request: pytest.FixtureRequest) -> str:
    """`auto` is the embedded backend, as without any setting."""
    if request.param == "docker":
        if not IS_OURS:
            pytest.skip("the reference kernel has no backends")
        docker_engine.require()
    return str(request.param)
