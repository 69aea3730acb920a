"""The pools of one engine: which there are, and how many sandboxes they may keep together.

Rule 1: a pool is found by a key that says everything its sandboxes have in common. Two
callers who differ in anything, a right or a variable, never draw from the same pool.
Rule 2: the budget holds over all pools; who claimed last is served first.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable

from sandbox_kernel.engine.pool import Make, Pool
from sandbox_kernel.engine.traffic import Traffic
from sandbox_kernel.errors import SessionClosed


class Pools:
    """The pools of one engine, by what their sandboxes have in common.

    Args:
        max_idle: how many unused sandboxes there may be in all of them together. Those
            that were claimed from last get what they want; the others what is left.
    """

    def __init__(self, *, max_idle: int) -> None:
        self._max_idle = max_idle
        self._traffic = Traffic()
        self._pools: OrderedDict[Hashable, Pool] = OrderedDict()  # the last used one last
        self._users: Counter[Hashable] = Counter()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def open(
        self,
        key: Hashable,
        make: Make,
        *,
        size: int,
        preload: Iterable[str] = (),
        warm_code: str = "",
    ) -> Pool:
        """The pool of `key`, filling up. `key` has to say everything that `make` decides.

        Whoever opens it calls `release` when they will claim no more.

        Raises:
            SessionClosed: the pools were closed.
            SettingsError: `preload` names what cannot be; or as `make`.
        """
        if self._is_closed:
            raise SessionClosed("The pools were closed with their engine. Make another one.")
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(
                make,
                size=size,
                preload=tuple(preload),
                warm_code=warm_code,
                traffic=self._traffic,
                on_claim=lambda: self._note_use(key),
            )
        pool.size = max(pool.size, size)
        self._users[key] += 1
        self._note_use(key)
        self._drop_unused()
        pool.start()
        return pool

    def release(self, key: Hashable, *, is_last: bool = False) -> None:
        """One user less. Without any it stays for the next one, for as long as it has a share.

        `is_last`: no user will come after those that there are.
        """
        self._users[key] -= 1
        if self._users[key] <= 0:
            del self._users[key]
            if is_last:
                self.drop(key)
        self._drop_unused()

    @property
    def ready(self) -> int:
        """How many can be claimed at once, of all kinds."""
        return sum(pool.ready for pool in self._pools.values())

    async def wait_until_full(self, timeout_s: float) -> None:
        """As `Pool.wait_until_full`, all of them."""
        async with asyncio.timeout(timeout_s):
            for pool in list(self._pools.values()):
                await pool.wait_until_full(timeout_s)

    def drop(self, key: Hashable) -> None:
        """Nobody can claim of that kind again: destroy what is left, on the side."""
        pool = self._pools.pop(key, None)
        self._users.pop(key, None)
        if pool is not None:
            task = asyncio.ensure_future(pool.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._share()

    async def close(self) -> None:
        """Destroy all that was not claimed. Safe to call twice."""
        self._is_closed = True
        for key in list(self._pools):
            self.drop(key)
        if self._closing:
            await asyncio.wait(self._closing)

    def _note_use(self, key: Hashable) -> None:
        if key in self._pools:
            self._pools.move_to_end(key)
            self._share()

    def _share(self) -> None:
        """Give what there may be to the pools, the last used one first."""
        left = self._max_idle
        for pool in reversed(self._pools.values()):
            pool.resize(left)
            left -= min(left, pool.size)

    def _drop_unused(self) -> None:
        """An engine that lives for long would gather pools that are empty."""
        for key, pool in list(self._pools.items()):
            if not self._users[key] and not pool.is_kept:
                self.drop(key)
