"""A program that takes a seat, with a kernel that does not keep to what was agreed."""

from __future__ import annotations

import asyncio

import pytest

from sandbox_kernel.errors import NoSuchSession, RequestRefused
from sandbox_kernel.limits import Limits
from sandbox_kernel.sharing import wire
from sandbox_kernel.sharing.client import connect
from tests.sharing.fake_kernel import HELLO, FakeKernel


@pytest.mark.parametrize("answer", [{"id": 1, "kind": "answer", "content": {"outcome": {}}}])
async def test_an_answer_that_is_none_is_an_error_of_ours(answer):
    hello = wire.pack({**HELLO, "limits": Limits()._asdict()})
    async with FakeKernel(hello, wire.pack(answer)) as fake:
        seat = await connect(fake.id)
        with pytest.raises(RequestRefused, match="gave no answer"):
            async with asyncio.timeout(20):
                await seat.execute("1", on_event=lambda _event: None)
        await seat.close()


@pytest.mark.parametrize("wrong", ["", "../../x", "0" * 31, "x" * 32, "0" * 32])
async def test_an_id_of_nothing_is_told_with_the_remedy(wrong):
    with pytest.raises(NoSuchSession, match="list --sessions"):
        await connect(wrong)
