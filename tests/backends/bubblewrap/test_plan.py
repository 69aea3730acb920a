"""What the plan shows of the host, without starting anything."""

from __future__ import annotations

import marshal
import os

import pytest

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.bubblewrap import plan
from sandbox_kernel.backends.bubblewrap.environment import Environment
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.limits import Limits


@pytest.fixture
def machine(tmp_path):
    bwrap, code = tmp_path / "bin" / "bwrap", tmp_path / "guest"
    bwrap.parent.mkdir()
    bwrap.touch()
    code.mkdir()
    return plan.Machine(str(bwrap), str(code), "x86_64", True, 42, frozenset({0, 1}), True)


@pytest.fixture
def environment(tmp_path):
    """A virtual environment over a base, as directories."""
    for name in ("base/bin", "venv/bin", "venv/etc/jupyter"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "base/bin/python3").touch()
    (tmp_path / "venv/bin/python").symlink_to(tmp_path / "base/bin/python3")
    (tmp_path / "venv/pip.conf").write_text("index-url = https://user:password@example.org")
    root = str(tmp_path)
    return Environment(f"{root}/venv/bin/python", f"{root}/venv", f"{root}/base", "", "3.11.7")


def make(environment, machine, spec=None, command=("python",), **options):
    options = {"cpus": 2.0, "uid_base": plan.uid_base(0)} | options
    return plan.make(spec or SandboxSpec(), environment, machine, list(command), **options)


def arguments(made):
    return made["arguments"].decode().split("\0")[:-1]


def binds(made, option):
    """Guest path -> what is bound there, by the host's names."""
    words, staged = arguments(made), {name: source for kind, name, source in made["stage"]}
    found = {}
    for index, word in enumerate(words):
        if word == option:
            source = words[index + 1].removeprefix(plan.STAGE + "/")
            found[words[index + 2]] = staged.get(source, words[index + 1])
    return found


def test_environment_is_shown_at_its_own_paths_read_only(environment, machine):
    shown = binds(make(environment, machine), "--ro-bind")
    assert shown[environment.prefix] == environment.prefix
    assert shown[environment.base_prefix] == environment.base_prefix
    assert shown["/run/sandbox-kernel/guest"] == machine.guest_code


def test_only_scratch_can_be_written_to(environment, machine):
    written = binds(make(environment, machine), "--bind")
    scratch = f"{plan.STAGE}/scratch"
    assert written == {
        "/workspace": f"{scratch}/workspace",
        "/home/sandbox": f"{scratch}/home",
        "/tmp": f"{scratch}/tmp",
        "/dev/shm": f"{scratch}/shm",
    }


def test_passwords_in_an_environment_are_covered(environment, machine):
    made = make(environment, machine)
    words = arguments(made)
    for name, cover in (("pip.conf", "empty-file"), ("etc/jupyter", "empty")):
        path = f"{environment.prefix}/{name}"
        assert words[words.index(path) - 1] == f"{plan.STAGE}/{cover}"
        assert words.index(path) > words.index(environment.prefix)


def test_root_and_dev_are_sealed_after_everything_was_mounted(environment, machine):
    words = arguments(make(environment, machine))
    seal = words.index("--remount-ro", words.index("--remount-ro") + 1)
    assert words[seal + 1] == "/"
    assert not {"--bind", "--ro-bind", "--dev", "--proc", "--symlink"} & set(words[seal:])


def test_bwrap_is_told_to_take_everything_away(environment, machine):
    words = arguments(make(environment, machine))
    for option in ("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"):
        assert option in words
    for option in ("--new-session", "--as-pid-1", "--clearenv"):
        assert option in words
    assert words[words.index("--cap-drop") + 1] == "ALL"
    assert words[words.index("--uid") + 1] == words[words.index("--gid") + 1] == "1000"
    assert "--share-net" not in words


def test_of_etc_only_what_libraries_need_is_shown(environment, machine):
    staged = [(kind, name) for kind, name, _ in make(environment, machine)["stage"]]
    bound = {name for kind, name in staged if kind == "bind" and name.startswith("etc/")}
    for secret in ("shadow", "ssh", "pip.conf", "machine-id", "ssl/private", "ssl", "passwd"):
        assert f"etc/{secret}" not in bound
    assert ("file", "etc/passwd") in staged


def test_links_on_the_way_to_the_interpreter_are_repeated(tmp_path, machine):
    (tmp_path / "real-1.2/bin").mkdir(parents=True)
    (tmp_path / "real-1.2/bin/python3").touch()
    (tmp_path / "real").symlink_to("real-1.2")
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to(tmp_path / "real/bin/python3")
    root = str(tmp_path)
    found = Environment(f"{root}/venv/bin/python", f"{root}/venv", f"{root}/real", "", "3.11.7")
    made = make(found, machine)
    words = arguments(made)
    link = words.index(f"{root}/real")
    assert words[link - 2 : link] == ["--symlink", "real-1.2"]
    assert f"{root}/real-1.2" in binds(made, "--ro-bind")
    assert words.count(f"{root}/real") == 1


def test_interpreter_outside_of_its_environment_is_refused(tmp_path, environment, machine):
    (tmp_path / "elsewhere").touch()
    lost = environment._replace(executable=str(tmp_path / "elsewhere"))
    with pytest.raises(SettingsError, match="outside of its own environment"):
        make(lost, machine)


def test_variables_are_the_guests_own_and_the_specs(environment, machine, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    words = arguments(make(environment, machine, SandboxSpec(environment={"A": "1", "PATH": "/x"})))
    pairs = [words[i + 1 : i + 3] for i, word in enumerate(words) if word == "--setenv"]
    variables = dict(pairs)
    assert variables["A"] == "1"
    assert variables["PATH"] == "/x"
    assert variables["VIRTUAL_ENV"] == environment.prefix
    assert "SECRET_OF_THE_HOST" not in variables


@pytest.mark.parametrize("variables", [{"": "x"}, {"A=B": "x"}, {"A": "x\0y"}])
def test_impossible_variables_are_refused(environment, machine, variables):
    with pytest.raises(SettingsError):
        make(environment, machine, SandboxSpec(environment=variables))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a//b", "."])
def test_home_files_stay_in_the_home(environment, machine, name):
    with pytest.raises(SettingsError, match="no path in a guest's home"):
        make(environment, machine, SandboxSpec(home_files={name: "/etc/hostname"}))


def test_user_site_is_shown_and_found(tmp_path, environment, machine):
    site = tmp_path / "user/lib/python3.11/site-packages"
    site.mkdir(parents=True)
    made = make(environment._replace(user_site=str(site)), machine)
    assert str(site) in binds(made, "--ro-bind")
    words = arguments(made)
    assert words[words.index("PYTHONUSERBASE") + 1] == str(tmp_path / "user")


def test_limits_travel_to_the_launcher(environment, machine):
    limits = Limits(workspace_bytes=2**21, workspace_inodes=99, open_files=77, processes=33)
    made = make(environment, machine, SandboxSpec(limits=limits))
    assert (made["scratch"]["bytes"], made["scratch"]["inodes"]) == (2**21, 99)
    assert (7, 77) in made["rlimits"]
    assert 6 not in dict(made["rlimits"])
    made = make(environment, machine._replace(has_cgroup=False), SandboxSpec(limits=limits))
    assert dict(made["rlimits"])[6] == 35
    assert len(made["affinity"]) == 2


def test_an_ordinary_user_keeps_the_uid(environment, machine):
    assert make(environment, machine._replace(is_root=False))["uid"] is None
    assert make(environment, machine)["uid"] == 0x70000000


def test_outer_uids_stay_in_the_range_that_nobody_uses():
    for byte in range(256):
        base = plan.uid_base(byte)
        assert 0x70000000 <= base <= base + 2**22 - 1 <= 0x7FFFFFFF


def test_default_cpus_shrink_to_the_machine_and_wishes_do_not(machine):
    small = machine._replace(cpus=frozenset({3}))
    assert plan.choose_cpus(small, 2.0) == 1.0
    assert plan.choose_cpus(machine, 0.5) == 0.5
    with pytest.raises(SettingsError, match="cpus is 3"):
        plan.choose_cpus(machine, 3.0)
    with pytest.raises(SettingsError, match="Ask for 1"):
        plan.choose_cpus(machine._replace(has_cgroup=False), 0.5)


def test_plan_survives_the_way_to_the_launcher(environment, machine):
    made = make(environment, machine, SandboxSpec(environment={"ü": os.fsdecode(b"\xff")}))
    assert marshal.loads(plan.encode(made)) == made
