"""Starts one sandbox with a probe as its first process and prints what came of it as JSON.

Run as a process of its own, so that tests can choose the host's user. On standard input:
`code`, and optionally `limits`, `spec`, `input`, `is_announced` (a line just before the launch),
`is_alone` (a line when the guest speaks; then wait to be killed), `is_ended_by_output`.
"""

import asyncio
import json
import sys

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.bubblewrap import BubblewrapBackend, diagnosis
from sandbox_kernel.limits import Limits

TIMEOUT_S = 80


def read_outer_uids(launcher_pid):
    """Real, effective, saved and filesystem uids of all processes of the sandbox."""
    uids = set()
    for pid in diagnosis.descendants(launcher_pid):
        try:
            with open(f"/proc/{pid}/status") as file:
                rows = [line.split()[1:] for line in file if line.startswith("Uid:")]
        except OSError:
            continue
        uids.update(int(uid) for row in rows for uid in row)
    return sorted(uids)


async def follow(sandbox, task):
    output, uids, usage = b"", [], None
    if task.get("input"):
        await sandbox.send(task["input"].encode())
    async for chunk in sandbox.receive():
        output += chunk
        if not uids:
            uids = read_outer_uids(sandbox.launcher_pid)
            usage = await sandbox.measure()
            if task.get("is_alone"):
                print(json.dumps({"launcher": sandbox.launcher_pid, "id": sandbox.id}), flush=True)
        if task.get("is_ended_by_output"):
            break
    return output, uids, usage


async def main():
    task = json.loads(sys.stdin.read())
    spec = SandboxSpec(limits=Limits(**task.get("limits", {})), **task.get("spec", {}))
    backend = BubblewrapBackend()
    python = task["python"]
    if task.get("is_announced"):
        print("launching", flush=True)
    sandbox = backend.launch_command(spec, [python, "-I", "-c", task["code"]])
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, uids, usage = await follow(sandbox, task)
            if task.get("is_ended_by_output"):
                sandbox.kill()
            death = await sandbox.death()
    finally:
        await sandbox.close()
    last = await sandbox.measure()
    print(
        json.dumps(
            {
                "output": output.decode("utf-8", "replace"),
                "death": death,
                "uids": uids,
                "running": usage,
                "usage": last,
                "launcher": sandbox.launcher_pid,
                "id": sandbox.id,
                "boundary": sandbox.boundary,
                "needs_memory_watch": sandbox.needs_memory_watch,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
