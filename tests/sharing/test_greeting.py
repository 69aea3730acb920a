"""What a kernel says first, checked by a program that attaches."""

from __future__ import annotations

import pytest

from sandbox_kernel.errors import BackendUnavailable
from sandbox_kernel.sharing import wire
from sandbox_kernel.sharing.client import connect
from tests.sharing.fake_kernel import HELLO, FakeKernel


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"\xff" * 8, "no message of ours"),
        (wire.pack({"kind": "closed"}), "no greeting"),
        (wire.pack({**HELLO, "version": "9.9"}), "runs sandbox-kernel 9.9"),
        (wire.pack({**HELLO, "limits": {"memory_bytes": 1}}), "limits"),
        (wire.pack({**HELLO, "limits": None}), "limits"),
    ],
)
async def test_a_kernel_of_another_kind_is_named(said, told):
    async with FakeKernel(said) as fake:
        with pytest.raises(BackendUnavailable, match=told):
            await connect(fake.id)
