"""Names, places and numbers of control groups, on directories that look like them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sandbox_kernel.backends.bubblewrap import cgroups

V1 = """\
30 23 0:27 / {root} rw - tmpfs tmpfs rw,mode=755
31 30 0:28 / {root}/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
32 30 0:29 / {root}/memory rw - cgroup cgroup rw,memory
33 30 0:30 / {root}/pids rw - cgroup cgroup rw,pids
34 30 0:31 / {root}/unified rw - cgroup2 cgroup2 rw
"""
V2 = "30 23 0:27 / {root} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture
def mounts(tmp_path):
    def write(text):
        path = tmp_path / "mountinfo"
        path.write_text(text.format(root=tmp_path / "cgroup"))
        return {"root": str(tmp_path / "cgroup"), "mounts": str(path)}

    (tmp_path / "cgroup/unified").mkdir(parents=True)
    (tmp_path / "cgroup/unified/cgroup.controllers").write_text("hugetlb\n")
    return write


def test_version_1_is_found_also_where_controllers_share_a_mount(tmp_path, mounts):
    root = str(tmp_path / "cgroup")
    assert cgroups.find_parents(**mounts(V1)) == {
        "cpu": f"{root}/cpu,cpuacct",
        "cpuacct": f"{root}/cpu,cpuacct",
        "memory": f"{root}/memory",
        "pids": f"{root}/pids",
    }


def test_version_2_is_found_where_it_controls_memory(tmp_path, mounts):
    (tmp_path / "cgroup/cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert cgroups.find_parents(**mounts(V2)) == {"": str(tmp_path / "cgroup")}


def test_half_of_the_controllers_is_nothing(mounts):
    assert cgroups.find_parents(**mounts(V1.replace("rw,memory", "rw,other"))) == {}


def test_group_that_cannot_be_made_is_none_and_leaves_nothing(tmp_path):
    parents = {name: str(tmp_path / name) for name in cgroups.V1_CONTROLLERS}
    # An ordinary directory: the group's files are not there, and must not be made.
    assert not cgroups.make(cgroups.name_groups("a-b-c-d", parents), 2**26, 10, 1.0)
    assert [names for _, _, names in os.walk(tmp_path) if names] == []
    assert not list(tmp_path.glob("*/sandbox-kernel/*"))


def test_version_2_numbers_are_read(tmp_path):
    (tmp_path / "memory.current").write_text("4096\n")
    (tmp_path / "memory.peak").write_text("8192\n")
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 1500\nuser_usec 1000\n")
    found = cgroups.measure({"": str(tmp_path)})
    assert found == {"memory": 4096, "peak": 8192, "kills": 2, "cpu_us": 1500}


def test_numbers_of_a_group_that_is_gone_are_missing(tmp_path):
    assert cgroups.measure({"": str(tmp_path / "gone")}) == {}
    assert cgroups.measure({"memory": str(tmp_path), "cpuacct": str(tmp_path)}) == {}


def test_living_owner_is_not_abandoned():
    owner = cgroups.identify(os.getpid())
    assert not cgroups.is_abandoned(f"{owner}-00ff")


def test_dead_owner_is_abandoned_also_when_its_number_lives_again():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = cgroups.identify(process.pid)
        process.communicate(b"\n")
    assert cgroups.is_abandoned(f"{owner}-00ff")
    pid, start, namespace = cgroups.identify(os.getpid()).split("-")
    assert cgroups.is_abandoned(f"{pid}-{int(start) + 1}-{namespace}-00ff")


def test_groups_of_other_containers_and_other_programs_are_left_alone():
    pid, start, namespace = cgroups.identify(os.getpid()).split("-")
    assert not cgroups.is_abandoned(f"{pid}-{int(start) + 1}-{int(namespace) + 1}-00ff")
    for name in ("", "tasks", "a-b-c-d", "1-2-3", "user.slice"):
        assert not cgroups.is_abandoned(name)


def test_processes_of_foreign_namespaces_are_not_taken_for_ourselves(tmp_path):
    """The kernel lists them as 0, and a signal to 0 reaches the sender's own group."""
    (tmp_path / "cgroup.procs").write_text("0\n17\n0\n")
    assert cgroups.processes({"pids": str(tmp_path)}) == [17]
