"""Mounts: what an owner may show to a guest, what never, and what the engine makes of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sandbox_kernel import backends, events
from sandbox_kernel.backends.base import Mount, SandboxSpec
from sandbox_kernel.backends.docker import mounts
from sandbox_kernel.errors import SandboxKernelError, SettingsError
from sandbox_kernel.limits import MIB
from sandbox_kernel.session import SandboxSession
from tests.support import docker_engine


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of its own, with a directory that may be mounted."""
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    made = tmp_path / "homes" / "me"
    (made / "data").mkdir(parents=True)
    (made / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(made))
    return made


def refusal(path: object, *, is_writable: bool = False, **options: object) -> str:
    mount = Mount("/data", str(path), is_writable)
    with pytest.raises(SettingsError) as caught:
        mounts.check([mount], **options)
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith(".")
    return message


def test_a_directory_of_the_home_can_be_mounted(home):
    given = Mount("/data", str(home / "data"))
    assert mounts.check([given]) == [given]


def test_links_are_roots_or_refused_and_the_engine_gets_the_resolved_path(home):
    link, resolved = home / "link", os.path.realpath(home / "data")
    link.symlink_to("../me/data")
    if os.getuid() == 0:
        (checked,) = mounts.check([Mount("/data", str(link))])
        assert checked.host_path == resolved
        os.lchown(link, 61200, 61200)
    message = refusal(link)
    assert "is a link" in message
    assert f"write {resolved!r} instead" in message


def test_what_lies_in_a_writable_mount_is_not_mounted_by_itself(home):
    (home / "data" / "sub").mkdir()
    inner = Mount("/b", str(home / "data" / "sub"))
    with pytest.raises(SettingsError, match="mounted writable"):
        mounts.check([Mount("/a", str(home / "data"), is_writable=True), inner])
    mounts.check([Mount("/a", str(home / "data")), inner])


# --- on an engine ---------------------------------------------------------------------

LOOK = """
import os
def attempt(path):
    try:
        with open(path, "w") as file:
            file.write("x")
        return "wrote"
    except OSError as error:
        return os.strerror(error.errno)
print(open("/data/a").read(), attempt("/data/b"), attempt("/cache/c"), sep=";", end=";")
print(os.statvfs("/cache").f_blocks * os.statvfs("/cache").f_frsize, end=";")
print(sorted(os.listdir("/data")), end="")
"""


async def test_a_guest_reads_what_is_mounted_and_writes_only_to_the_tmpfs(home):
    docker_engine.require()
    (home / "data" / "a").write_text("hello")
    (home / "data").chmod(0o777)  # nothing but the mount stands in the way
    asked = mounts.parse_all([f"{home}/data:/data", "tmpfs:/cache:1m"])
    session = SandboxSession(backends.get("docker"), SandboxSpec(mounts=asked))
    shown: list[str] = []

    def hear(event: events.Event) -> None:
        if isinstance(event, events.TextWritten):
            shown.append(event.text)

    try:
        await session.execute(LOOK, on_event=hear)
    finally:
        await session.close()
    expected = f"hello;Read-only file system;wrote;{MIB};['a']"
    assert "".join(shown) == expected
    assert not (home / "data" / "b").exists()


async def test_a_forbidden_mount_is_said_and_starts_nothing(home):
    docker_engine.require()
    spec = SandboxSpec(mounts=(Mount("/data", str(home / ".ssh")),))
    session = SandboxSession(backends.get("docker"), spec)
    try:
        with pytest.raises(SandboxKernelError, match="hidden directory"):
            await session.start()
    finally:
        await session.close()
    assert docker_engine.containers_of(os.getpid()) == []


# --- refused paths of the host --------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/proc", "/proc/self", "/sys", "/sys/fs/cgroup", "/dev", "/dev/shm", "/run"),
        *("/var/run", "/boot", "/etc", "/etc/ssl", "/usr", "/bin", "/lib", "/var", "/var/lib"),
        *("/home", "/root", "/tmp", "/var/lib/docker", "/var/lib/docker/volumes", "/var/spool"),
        "/var/snap",
    ],
)
def test_the_systems_own_directories_are_refused(home, path):
    assert "system" in refusal(path)


def test_the_home_and_whatever_holds_it_are_refused(home):
    for path in (home, home.parent, home.parent.parent):
        assert "home directory" in refusal(path)


def test_the_home_of_somebody_else_is_refused_whole(home):
    assert "somebody's home" in refusal("/home/nobody-here")


def test_hidden_directories_of_the_home_are_refused(home):
    (home / ".local" / "share" / "x").mkdir(parents=True)
    (home / "data" / ".git").mkdir()
    for path in (".ssh", ".local/share/x", "data/.git"):
        assert "hidden directory" in refusal(home / path)


def test_links_to_what_is_refused_are_refused(home):
    for name, target in {"a": "/etc", "b": home / ".ssh", "c": "/", "d": home, "e": "e"}.items():
        (home / name).symlink_to(target)
        refusal(home / name)
    (home / "data" / "up").symlink_to("..")
    refusal(home / "data" / "up" / ".ssh")


def test_a_refused_name_stays_refused_wherever_it_leads(home):
    (home / ".hidden").symlink_to(home / "data")
    assert "hidden directory" in refusal(home / ".hidden")


def test_files_sockets_and_what_is_not_there_are_refused(home):
    (home / "file").write_text("")
    os.mkfifo(home / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "socket"))
        for name in ("file", "fifo", "socket"):
            assert "not a directory" in refusal(home / name)
    assert "No such file" in refusal(home / "missing")


def test_an_engines_socket_its_directory_and_what_holds_it_are_refused(home, monkeypatch):
    (home / "data" / "engine" / "sub").mkdir(parents=True)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/data/engine/docker.sock")
    for path in ("data", "data/engine", "data/engine/sub"):
        assert "where an engine listens" in refusal(home / path)
    monkeypatch.delenv("DOCKER_HOST")
    mounts.check([Mount("/data", str(home / "data" / "engine"))])


def test_the_engines_files_are_refused(home):
    (home / "data" / "engine").mkdir()
    root = str(home / "data" / "engine")
    assert "engine keeps its files" in refusal(home / "data", data_root=root)
    mounts.check([Mount("/data", str(home / "data"))])


@pytest.mark.parametrize("name", ["JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"])
def test_jupyters_directories_are_refused_wherever_they_are(home, monkeypatch, name):
    (home / "data" / "jupyter" / "sub").mkdir(parents=True)
    monkeypatch.setenv(name, str(home / "data" / "jupyter"))
    for path in ("data", "data/jupyter", "data/jupyter/sub"):
        assert "Jupyter" in refusal(home / path)
    monkeypatch.delenv(name)
    mounts.check([Mount("/data", str(home / "data" / "jupyter"))])


def test_the_file_of_our_settings_cannot_be_shown(home, monkeypatch):
    monkeypatch.setenv("SANDBOX_KERNEL_SETTINGS", str(home / "data" / "mine.toml"))
    assert "settings" in refusal(home / "data")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "data"))
    monkeypatch.delenv("SANDBOX_KERNEL_SETTINGS")
    assert "settings" in refusal(home / "data")


def test_programs_that_run_outside_may_be_read_but_not_written(home, monkeypatch):
    environment = home / "data" / "env"
    environment.mkdir()
    monkeypatch.setattr("sys.prefix", str(environment))
    assert "run outside" in refusal(home / "data", is_writable=True)
    mounts.check([Mount("/data", str(home / "data"))])


def test_a_place_that_a_guest_could_exchange_is_refused(home):
    shared = home / "data" / "shared"
    (shared / "mine").mkdir(parents=True)
    shared.chmod(0o777)
    assert "changed by others" in refusal(shared / "mine")
    shared.chmod(0o1777)  # as /tmp: others cannot rename what is ours
    mounts.check([Mount("/data", str(shared / "mine"))])
    shared.chmod(0o755)
    mounts.check([Mount("/data", str(shared / "mine"))])


def test_a_place_below_a_guests_own_directory_is_refused(home):
    if os.getuid() != 0:
        pytest.skip("only root can make a directory of another user")
    (home / "data" / "theirs" / "sub").mkdir(parents=True)
    os.chown(home / "data" / "theirs", 61200, 61200)
    assert "changed by others" in refusal(home / "data" / "theirs" / "sub")


def test_a_directory_with_another_filesystem_in_it_is_refused(home, monkeypatch):
    text = f"36 35 98:0 / {home}/data/a\\040disk rw - ext4 /dev/x rw\n".encode()
    monkeypatch.setattr(mounts, "_read_mountinfo", lambda: text)
    assert "another filesystem" in refusal(home / "data")
    (home / "data" / "a disk").mkdir()
    mounts.check([Mount("/data", str(home / "data" / "a disk"))])


def test_a_remote_engine_is_given_no_path_of_this_machine(home):
    message = refusal(home / "data", is_local=False)
    assert "another machine" in message
    mounts.check([Mount("/cache", size_bytes=MIB)], is_local=False)


# --- refused places inside ------------------------------------------------------------


@pytest.mark.parametrize(
    ("guest", "said"),
    [
        ("data", "not an absolute path"),
        ("/", "would hide"),
        ("/opt", "would hide /opt/sandbox-kernel"),
        ("/home", "would hide"),
        ("/run", "would hide"),
        ("/proc", "lies in /proc"),
        ("/sys/x", "lies in"),
        ("/dev/shm", "lies in"),
        ("/etc/x", "lies in"),
        ("/usr/lib/python3", "lies in"),
        ("/opt/sandbox-kernel/guest", "lies in"),
        ("/run/sandbox-kernel", "lies in"),
        ("/workspace", "would hide /workspace"),
        ("/home/sandbox", "would hide"),
        ("/tmp", "would hide"),
        ("/data/", "shortest form"),
        ("/data/../etc", "shortest form"),
        ("/data//x", "shortest form"),
        ("//data", "shortest form"),
        ("/da\tta", "no path should have"),
        ("/da\x00ta", "no path should have"),
        ("/" + "x" * 9000, "no path should have"),
    ],
)
def test_places_inside_that_a_sandbox_is_made_of_are_refused(guest, said):
    with pytest.raises(SettingsError, match=said):
        mounts.parse(f"/srv/data:{guest}")


@pytest.mark.parametrize("guest", ["/data", "/workspace/data", "/home/sandbox/x", "/mnt/a b"])
def test_other_places_inside_are_free(guest):
    assert mounts.parse(f"/srv/data:{guest}") == Mount(guest, "/srv/data")


@pytest.mark.parametrize(
    "lines",
    [["/srv/a:/x", "/srv/b:/x"], ["/srv/a:/x", "tmpfs:/x/y"], ["tmpfs:/x/y/z", "/srv/a:/x"]],
)
def test_mounts_stand_beside_each_other(lines):
    with pytest.raises(SettingsError, match="beside each other"):
        mounts.parse_all(lines)
    assert len(mounts.parse_all(["/srv/a:/x", "/srv/b:/x-y", "/srv/b:/x.y", "/srv/c:/y"])) == 4


def test_nested_mounts_are_found_whatever_sorts_between_them():
    with pytest.raises(SettingsError, match="beside each other"):
        mounts.parse_all(["/srv/a:/x", "/srv/b:/x-y", "/srv/c:/x/z"])


def test_there_is_an_end_to_the_number_of_mounts():
    with pytest.raises(SettingsError, match="at most"):
        mounts.parse_all([f"/srv/a:/x{number}" for number in range(100)])


def test_a_mount_that_nobody_parsed_is_judged_all_the_same(home):
    for mount in (
        Mount("/etc/x", str(home / "data")),
        Mount("/data", "data"),
        Mount("/data", f"{home}/data/../.ssh"),
        Mount("/data", f"{home}/da\nta"),
    ):
        with pytest.raises(SettingsError):
            mounts.check([mount])


# --- what the engine is told ----------------------------------------------------------


def test_the_engine_is_told_of_private_mounts_without_what_is_below(home):
    given = mounts.parse_all([f"{home}/data:/data:rw", "tmpfs:/cache:1m"])
    binds, tmpfs = mounts.host_config(given, is_local=True)
    assert binds == [
        {
            "Type": "bind",
            "Source": str(home / "data"),
            "Target": "/data",
            "ReadOnly": False,
            "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
        }
    ]
    assert list(tmpfs) == ["/cache"]
    assert "nosuid,nodev" in tmpfs["/cache"]
    assert f"size={MIB}," in tmpfs["/cache"]


def _bind(path, **options):
    return {"Source": str(path), "ReadOnly": False, **options}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_guest_writes_as_the_one_who_owns_the_directory(tmp_path):
    os.chown(tmp_path, 12345, 12346)
    assert mounts.writer_of([_bind(tmp_path)]) == (12345, 12346)
    assert mounts.writer_of([_bind(tmp_path), _bind("/usr", ReadOnly=True)]) == (12345, 12346)
    assert mounts.writer_of([_bind(tmp_path, ReadOnly=True)]) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_guest_never_becomes_root_nor_two_users_to_write(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for number, path in enumerate((first, second)):
        path.mkdir()
        os.chown(path, 0, 0)
        with pytest.raises(SettingsError, match="belongs to root"):
            mounts.writer_of([_bind(path)])
        os.chown(path, 12345 + number, 12345)
    with pytest.raises(SettingsError, match="different users"):
        mounts.writer_of([_bind(first), _bind(second)])
