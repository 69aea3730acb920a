"""Every limit holds, and what stays below it works."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec

import pytest

MIB = 1024 * 1024
PLACES = ("/workspace", "/tmp", "/home/sandbox", "/dev/shm")

FILL = """
import errno, json, os
def fill(place):
    name, written = os.path.join(place, "filling"), 0
    try:
        with open(name, "wb", buffering=0) as file:
            while True:
                written += file.write(bytes(65536))
    except OSError as error:
        return [written, errno.errorcode[error.errno]]
    finally:
        os.unlink(name)
print(json.dumps({place: fill(place) for place in %r}))
"""


def test_disk_fill_ends_at_the_cap_in_every_place(host):
    cap = 16 * MIB
    filled = json.loads(host.inside(FILL % (PLACES,), limits={"workspace_bytes": cap}).output)
    for place in PLACES:
        written, error = filled[place]
        assert error == "ENOSPC", place
        assert cap // 2 < written <= cap, place


def test_the_places_share_one_cap(host):
    code = """
import json, os
def write(path, count):
    try:
        with open(path, "wb", buffering=0) as file:
            return sum(file.write(bytes(1 << 20)) for _ in range(count))
    except OSError as error:
        return str(error.strerror)
print(json.dumps([write("/workspace/a", 14), write("/tmp/b", 1), write("/dev/shm/c", 4)]))
"""
    first, second, third = json.loads(
        host.inside(code, limits={"workspace_bytes": 16 * MIB}).output
    )
    assert (first, second) == (14 * MIB, MIB)
    assert third == "No space left on device"


def test_inodes_end_at_their_cap(host):
    code = """
made = 0
try:
    while True:
        open(f"/tmp/{made}", "x").close()
        made += 1
except OSError as error:
    print(made, error.errno)
"""
    made, number = map(int, host.inside(code, limits={"workspace_inodes": 500}).output.split())
    assert 450 <= made <= 508
    assert number == 28


FORK = """
import os, signal, time
children = []
try:
    while len(children) < 400:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        children.append(pid)
except OSError as error:
    print(len(children), error.errno)
else:
    print(len(children), 0)
"""


def test_fork_bomb_ends_at_the_process_limit(host):
    made, number = map(int, host.inside(FORK, limits={"processes": 50}).output.split())
    assert 45 <= made <= 52
    assert number == 11


def test_processes_below_the_limit_can_be_made(host):
    made, number = map(int, host.inside(FORK, limits={"processes": 450}).output.split())
    assert (made, number) == (400, 0)


def test_thread_bomb_ends_at_the_process_limit(host):
    code = """
import threading
gate = threading.Event()
made = 0
try:
    while made < 400:
        threading.Thread(target=gate.wait, daemon=True).start()
        made += 1
except RuntimeError:
    pass
print(made, flush=True)
import os
os._exit(0)
"""
    assert 40 <= int(host.inside(code, limits={"processes": 50}).output) <= 52


def test_two_sandboxes_of_a_user_do_not_share_a_process_limit(host):
    """One guest's fork bomb must not keep another from working."""
    process = host.start()
    try:
        bomb = FORK.replace(
            "print(", "print('full', flush=True); import time; time.sleep(60); print("
        )
        process.stdin.write(host.task(bomb, limits={"processes": 50}, is_alone=True))
        process.stdin.close()
        process.stdout.readline()
        made = int(host.inside(FORK, limits={"processes": 50}).output.split()[0])
        assert 45 <= made <= 52
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_open_files_end_at_their_limit(host):
    code = """
import resource
files = []
try:
    while True:
        files.append(open("/dev/null"))
except OSError as error:
    print(len(files), error.errno)
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
except ValueError:
    print("refused")
"""
    answer = host.inside(code, limits={"open_files": 100}).output.split()
    assert 80 <= int(answer[0]) < 100
    assert answer[1:] == ["24", "refused"]


BOMBS = {
    "heap": "hold = []\nwhile True: hold.append(b'x' * (1 << 20))",
    "mapping": "import mmap\nm = mmap.mmap(-1, 1 << 30)\nfor i in range(1 << 18): m[i << 12] = 1",
    "shared memory": "f = open('/dev/shm/x', 'wb')\nwhile True: f.write(b'x' * (1 << 20))",
    "memfd": "import os\nf = os.memfd_create('x')\nwhile True: os.write(f, b'x' * (1 << 20))",
}


def _skip_without_cgroup(answer):
    if answer.needs_memory_watch:
        pytest.skip("no control group may be made here; the supervisor's watchdog is tested there")


@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_bomb_in_a_child_is_killed_and_counted(root, bomb):
    code = f"""
import os
pid = os.fork()
if pid == 0:
    exec({BOMBS[bomb]!r})
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
if {bomb == "shared memory"}: os.unlink("/dev/shm/x")
"""
    limits = {"memory_bytes": 64 * MIB, "workspace_bytes": 512 * MIB}
    answer = root.inside(code, limits=limits)
    _skip_without_cgroup(answer)
    _, _, peak, kills = answer.usage
    if bomb in ("shared memory", "memfd"):
        # These pages are nobody's own, so the kernel may choose the first process.
        assert answer.output.strip() == "-9" or answer.death[0] == "memory"
    else:
        assert answer.output.strip() == "-9"
        assert answer.death[0] == "exited"
    assert kills >= 1
    assert 32 * MIB < peak <= 65 * MIB


def test_memory_bomb_of_the_first_process_is_the_death_of_the_sandbox(root):
    answer = root.inside(BOMBS["heap"], limits={"memory_bytes": 64 * MIB})
    _skip_without_cgroup(answer)
    assert answer.death[0] == "memory"
    assert "memory limit" in answer.death[1]


def test_memory_below_the_limit_is_there(root):
    answer = root.inside("print(len(b'x' * (40 << 20)))", limits={"memory_bytes": 96 * MIB})
    assert answer.output.strip() == str(40 << 20)
    assert answer.usage[3] in (0, None)


def test_without_control_groups_what_no_watchdog_sees_is_refused(user):
    code = """
import os
def refused(action, *arguments):
    try:
        action(*arguments)
        return False
    except PermissionError:
        return True
print(refused(os.memfd_create, "x"), refused(os.sched_setaffinity, 0, os.sched_getaffinity(0)))
print(len(os.sched_getaffinity(0)))
"""
    answer = user.inside(code, limits={"cpus": 1})
    assert answer.needs_memory_watch
    assert answer.output.split() == ["True", "True", "1"]
    assert "watchdog" in answer.boundary
    assert answer.usage[3] is None


def test_use_is_measured_while_it_runs(host):
    code = """
import os, time
hold = b"x" * (30 << 20)
start = time.process_time()
while time.process_time() - start < 0.3:
    pass
print("ready", flush=True)
os.read(0, 1)
"""
    answer = host.inside(code, is_ended_by_output=True)
    cpu_s, memory, peak, _ = answer.running
    assert 0.2 < cpu_s < 60  # seconds, of a machine that may stand still meanwhile
    assert 30 * MIB < memory < 100 * MIB
    assert peak >= memory


SPIN = """
import os, time
children = []
start = time.monotonic()
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        while time.monotonic() - start < 1.5:
            pass
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
used = os.times()
print((used.children_user + used.children_system) / (time.monotonic() - start))
"""


def test_cpu_quota_holds_for_many_processes(root):
    answer = root.inside(SPIN, limits={"cpus": 0.25})
    _skip_without_cgroup(answer)
    assert float(answer.output) < 0.4


def test_more_cpus_than_the_machine_has_are_refused(host):
    process = host.start()
    _, errors = process.communicate(host.task("pass", limits={"cpus": 4000}), timeout=100)
    assert process.returncode != 0
    assert "cpus is 4000, but the machine gives us" in errors


def test_part_of_a_cpu_without_control_groups_is_refused(user):
    process = user.start()
    _, errors = process.communicate(user.task("pass", limits={"cpus": 0.5}), timeout=100)
    assert process.returncode != 0
    assert "Ask for 1." in errors


LIBRARIES = """
import asyncio, concurrent.futures, json, multiprocessing, sqlite3, subprocess, sys, threading
found = {}
def work(number):
    return number * 2
async def talk():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(input())", stdin=-1, stdout=-1)
    output, _ = await process.communicate(b"hello\\n")
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    server.close()
    return output.decode().strip()
with multiprocessing.get_context("fork").Pool(2) as pool:
    found["pool"] = pool.map(work, [1, 2, 3])
with multiprocessing.Manager() as manager:
    found["manager"] = list(manager.list([1]))
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found["threads"] = list(pool.map(work, [1]))
found["asyncio"] = asyncio.run(talk())
found["sqlite"] = sqlite3.connect("x.db").execute("select 1").fetchone()[0]
found["shell"] = subprocess.run(["sh", "-c", "echo a | cat"], capture_output=True).stdout.decode()
found["user"] = __import__("getpass").getuser() + __import__("pwd").getpwuid(1000).pw_dir
print(json.dumps(found))
"""


def test_what_programs_commonly_do_works(host):
    answer = host.inside(LIBRARIES)
    assert answer.output, answer.death
    assert json.loads(answer.output) == {
        "pool": [2, 4, 6],
        "manager": [1],
        "threads": [2],
        "asyncio": "hello",
        "sqlite": 1,
        "shell": "a\n",
        "user": "sandbox/home/sandbox",
    }


@pytest.mark.skipif(
    not all(map(find_spec, ("numpy", "pandas", "matplotlib", "IPython"))),
    reason="the environment of these tests has no numpy, pandas, matplotlib and IPython",
)
def test_the_libraries_of_an_analysis_work(root):
    code = """
import numpy, pandas, IPython
import matplotlib; matplotlib.use("agg")
import matplotlib.pyplot as plt
frame = pandas.DataFrame({"a": numpy.arange(10.0)})
plt.plot(frame.a); plt.savefig("chart.png")
print(float((numpy.ones((50, 50)) @ numpy.ones((50, 50))).sum()), open("chart.png", "rb").read(4))
"""
    answer = root.inside(code)
    assert answer.output.split("\n")[0] == "125000.0 b'\\x89PNG'", answer.death


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")
def test_node_works(host):
    code = """
import subprocess
print(subprocess.run(["node", "-e", "fetch; require('fs').writeFileSync('x','y');"
    "new (require('worker_threads').Worker)('console.log(6*7)', {eval: true})"],
    capture_output=True, text=True).stdout)
"""
    path = shutil.which("node")
    if not path.startswith("/usr/"):
        pytest.skip("node is outside of what a guest sees")
    assert host.inside(code).output.strip() == "42"
