"""What only a container could do to its host and to its neighbours: THREATS 2, 3, 24, 46, 48.

Docker alone: the other backends have neither images, nor an engine that many share.
`tests/backends/docker/test_hardening.py` looks at one container from outside, criterion by
criterion; here a hostile cell tries.
"""

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from sandbox_kernel import languages
from sandbox_kernel.limits import MIB
from sandbox_kernel.session import run
from tests.escape.test_resources import BOMBS
from tests.support import docker_engine

VOLUME = "/var/tmp"  # which anybody may write to, in every Debian


@pytest.fixture(params=["docker"])
def backend(request: pytest.FixtureRequest) -> str:
    docker_engine.require()
    return str(request.param)


@pytest.fixture
def image_with_a_volume() -> Iterator[str]:
    """Our image, saying VOLUME like those of many databases."""
    api = docker_engine.api()
    image = languages.get("python").image
    made = api.create_container(image, network_disabled=True)["Id"]
    try:
        name = f"sandbox-kernel-tests/volume-{os.getpid()}"
        api.commit(made, repository=name, changes=f"VOLUME {VOLUME}")
    finally:
        api.remove_container(made)
    try:
        yield name
    finally:
        api.remove_image(name, force=True)


WRITABLE = (
    "import os\n"
    "def writable():\n"
    "    for line in open('/proc/self/mountinfo'):\n"
    "        mount, _, kind = line.partition(' - ')\n"
    "        path = mount.split()[4]\n"
    "        name = path if os.path.isdir(path) else os.path.dirname(path)\n"
    "        try: open(name + '/probe', 'x').close()\n"
    "        except OSError: continue\n"
    "        os.remove(name + '/probe')\n"
    "        yield path, kind.split()[0]\n"
    "print(sorted(writable()))"
)
OWN_PLACES = ["/dev/shm", "/home/sandbox", "/run/sandbox-kernel", "/tmp", "/workspace"]


async def test_what_can_be_written_is_memory_with_a_cap_and_nothing_else(open_session):
    driver = await open_session()
    cell = await driver.run(WRITABLE)
    assert cell.text().strip() == str([(path, "tmpfs") for path in OWN_PLACES])


async def test_a_volume_that_an_image_declares_is_no_way_to_the_engines_disk(
    open_session, image_with_a_volume
):
    driver = await open_session(image=image_with_a_volume, workspace_bytes=16 * MIB)
    cell = await driver.run(WRITABLE)
    places = sorted([*OWN_PLACES, VOLUME])
    assert cell.text().strip() == str([(path, "tmpfs") for path in places])
    filled = await driver.run(f"open('{VOLUME}/big', 'wb').write(bytes(32 << 20))")
    assert "[Errno 28]" in filled.error.value
    details = docker_engine.inspect(driver.sandbox.container_id)
    volumes = [mount for mount in details["Mounts"] if mount["Type"] == "volume"]
    # Ours, which is the same whatever the image: packages, read-only.
    assert [(mount["Name"], mount["RW"]) for mount in volumes] == [("sandbox-kernel-layers", False)]


async def test_all_places_together_stay_within_the_memory_limit(open_session):
    """Each has a cap of its own here; what they hold together is the memory of the sandbox."""
    driver = await open_session(memory_bytes=192 * MIB, workspace_bytes=128 * MIB)
    cell = await driver.run(
        "import os\nplaces = ('/tmp', '~', '/dev/shm')\n"
        "files = [open(os.path.expanduser(place + '/big'), 'wb') for place in places]\n"
        "for _ in range(15):\n"
        "    for file in files: file.write(b'x' * (8 << 20))"
    )
    assert cell.error.name == "MemoryLimitExceeded"
    assert "192 MiB" in cell.error.value
    assert (await driver.run("print('next')")).text() == "next\n"


async def test_a_storm_of_memory_kills_hides_no_later_one(open_session):
    """The engine remembers its last 256 events, whoever's they are."""
    stormy = await open_session(memory_bytes=192 * MIB, processes=32)
    calm = await open_session(memory_bytes=192 * MIB)
    assert (await calm.run(BOMBS["heap"])).error.name == "MemoryLimitExceeded"
    await stormy.run(BOMBS["children"], timeout_s=20)
    for driver in (calm, stormy, stormy):
        assert (await driver.run(BOMBS["heap"])).error.name == "MemoryLimitExceeded"
        assert (await driver.run("print('next')")).text() == "next\n"


async def test_a_kill_that_the_cell_made_itself_is_not_told_as_one_for_memory(open_session):
    driver = await open_session(memory_bytes=192 * MIB)
    assert (await driver.run(BOMBS["heap"])).error.name == "MemoryLimitExceeded"
    cell = await driver.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert cell.error.name == "RunnerExited"
    assert "SIGKILL" in cell.error.value


async def test_a_fork_bomb_disturbs_no_other_session(open_session):
    bomb, other = await open_session(processes=64, cpus=1), await open_session()
    fork = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    running = asyncio.ensure_future(bomb.run(fork, timeout_s=2))
    async with asyncio.timeout(90):
        for n in range(20):
            assert (await other.run(f"print({n})")).text() == f"{n}\n"
        cell = await running
    assert cell.error.name in {"CellTimeout", "RunnerExited"}
    assert (await bomb.run("print('next')")).text() == "next\n"


async def test_the_files_that_the_engine_writes_tell_nothing_of_the_host(open_session):
    driver = await open_session()
    cell = await driver.run(
        "for name in ('hosts', 'hostname', 'resolv.conf'):\n"
        "    try: print(open('/etc/' + name).read())\n"
        "    except OSError: pass"
    )
    with open("/etc/resolv.conf") as file:
        servers = [line.split()[1] for line in file if line.startswith(("nameserver", "search"))]
    secrets = {socket.gethostname(), *servers} - {"127.0.0.1", "localhost", "sandbox", "."}
    assert secrets.isdisjoint(cell.text().split())


@pytest.mark.parametrize("number", ["SIGKILL", "SIGSTOP"])
async def test_a_container_ended_or_stopped_from_outside_ends_the_cell_with_the_reason(
    open_session, monkeypatch, number
):
    """THREATS 24: what happens to the container is noticed; it needs no client that lives."""
    monkeypatch.setattr(run, "KILL_TIMEOUT_S", 0.8)  # which a stopped one does not meet
    driver = await open_session(interrupt_grace_s=0.5)
    sleep = "import time; time.sleep(600)"
    running = asyncio.ensure_future(driver.run(sleep, timeout_s=3 if number == "SIGSTOP" else 60))
    container_id = driver.sandbox.container_id
    await asyncio.to_thread(docker_engine.api().kill, container_id, number)
    cell = await running
    assert cell.error.name == ("SandboxDied" if number == "SIGKILL" else "CellTimeout")
    assert (await driver.run("print('next')")).text() == "next\n"
