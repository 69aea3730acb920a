"""What `close(keep_generated=…)` writes to the host is no more than a workspace holds."""

from sandbox_kernel.engine import Engine
from sandbox_kernel.limits import MIB, Limits

# A sparse file takes no room in the workspace, and all of its size on the host.
SPARSE = """
for number in range(8):
    with open(f"sparse{number}", "wb") as file:
        file.truncate(3 * 2**20)
"""


async def test_files_that_are_mostly_holes_do_not_fill_the_hosts_disk(backend, tmp_path):
    limits = Limits(workspace_bytes=8 * MIB)
    async with Engine(backend) as engine:
        session = await engine.create_session("python", limits=limits)
        made = await session.execute(SPARSE)
        assert len(made.files) == 8, made.stderr
        kept = await session.close(keep_generated=tmp_path)
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert written <= limits.workspace_bytes
    assert [one.path is not None for one in kept] == [True] * 2 + [False] * 6
    assert "8 MiB" in kept[-1].reason
