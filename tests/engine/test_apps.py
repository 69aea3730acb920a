"""Projects of several files, shell commands, and servers left running, by way of the engine."""

import asyncio
import os
import re
import urllib.request
from contextlib import asynccontextmanager

import pytest

from sandbox_kernel import languages
from sandbox_kernel.engine import Engine, Strategy, apps, shell
from sandbox_kernel.errors import (
    DependencyRefused,
    FileRefused,
    FileTooLarge,
    RequestRefused,
    SettingsError,
)
from tests.support import docker_engine
from tests.support.busybox import busybox_image
from tests.support.waiting import DEADLINE_S

PROJECT = {
    "main.py": "import sys\nfrom package.part import name\nprint(name, *sys.argv[1:])\n",
    "package/__init__.py": "",
    "package/part.py": b"name = 'part'\n",
}


async def fetch(url):
    return await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=DEADLINE_S).read())


@asynccontextmanager
async def session_of(backend, language="python", **options):
    async with Engine(backend=backend) as engine:
        yield await engine.create_session(language, **options)


# --- commands ---------------------------------------------------------------------------


async def test_a_command_is_streamed_and_its_exit_code_told(backend):
    async with session_of(backend) as session:
        heard = []
        result = await session.run("echo a; echo b >&2; exit 3", on_stdout=heard.append)
        assert (result.stdout, result.stderr, result.exit_code) == ("a\n", "b\n", 3)
        assert "".join(heard) == "a\n"
        assert not result.ok
        assert (await session.run("echo made > file")).files[0].name == "file"
        assert (await session.run("sleep 60", timeout_s=0.2)).exit_code == 124


async def test_a_server_left_running_is_reached_while_commands_come_and_go(backend):
    async with session_of(backend, allow_forward=True) as session:
        await session.files.write("page.txt", "the page")
        started = await session.run(
            "echo listening; exec python3 -m http.server 8000 --bind 127.0.0.1", background=True
        )
        pid, log = started.stdout.split()
        assert started.text == pid
        async with session.forward(8000) as forward:
            await forward.wait_until_open(DEADLINE_S)
            assert await fetch(forward.url + "/page.txt") == b"the page"
            await session.run("sleep 60", timeout_s=0.1)
            assert (await session.run(f"kill -0 {pid}")).ok
            await session.run(f"kill {pid}")
        assert b"listening\n" in await session.files.read(log)
        assert started.files == []


async def test_nothing_is_left_running_where_the_sandbox_goes_with_the_run(backend):
    async with session_of(backend, strategy=Strategy.PER_EXECUTION) as session:
        with pytest.raises(RequestRefused, match="sandbox that stays"):
            await session.run("sleep 60", background=True)
        assert (await session.run("echo fine")).stdout == "fine\n"


async def test_nothing_is_left_running_in_an_image_that_cannot(backend):
    if backend != "docker":
        pytest.skip("bubblewrap: every guest can")
    async with session_of(backend, "bash", image=busybox_image()) as session:
        with pytest.raises(RequestRefused, match="no Python"):
            await session.run("sleep 60", background=True)
        assert (await session.run("exit 5")).exit_code == 5


# --- projects ---------------------------------------------------------------------------


async def test_a_project_runs_from_its_entry_with_its_arguments(backend):
    async with session_of(backend) as session:
        arguments = ["a b", "$HOME", "'", "-x"]
        result = await session.run_app(PROJECT, entry="main.py", arguments=arguments)
        assert result.stdout == "part a b $HOME ' -x\n"
        assert (result.exit_code, result.files) == (0, [])
        failed = await session.run_app({"x.py": "raise SystemExit(9)"}, entry="x.py")
        assert failed.exit_code == 9


async def test_a_program_reads_what_it_is_given_and_nothing_of_it_stays(backend):
    program = {"main.py": "import os, sys; print(input(), sys.stdin.read(), os.listdir())"}
    async with session_of(backend, strategy=Strategy.PER_EXECUTION, workspace="shared") as session:
        result = await session.run_app(program, entry="main.py", stdin="a\nb")
        assert result.stdout == "a b ['main.py']\n"
        assert [entry.name for entry in await session.files.list()] == ["main.py"]


async def test_a_directory_runs_in_a_fresh_sandbox_as_well(backend, tmp_path):
    (tmp_path / "main.py").write_text("open('out.txt', 'w').write(open('data/in.txt').read())")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.txt").write_text("from the host")
    async with session_of(backend, strategy=Strategy.PER_EXECUTION, workspace="shared") as session:
        result = await session.run_app(tmp_path, entry="main.py")
        assert [file.name for file in result.files] == ["out.txt"]
        assert await session.files.read("out.txt") == b"from the host"


async def test_a_project_of_node_runs_with_modules_of_its_own(backend):
    options = {}
    if backend == "docker":
        options["image"] = languages.get("javascript").image
        docker_engine.require_image(options["image"])
    project = {
        "package.json": '{"type": "module"}',
        "src/server.js": "import {createServer} from 'http'; import {page} from './page.js';"
        "createServer((q, a) => a.end(page)).listen(8000, '127.0.0.1')",
        "src/page.js": "export const page = 'from node'",
    }
    async with session_of(backend, "javascript", allow_forward=True, **options) as session:
        await session.run_app(project, entry="src/server.js", background=True)
        async with session.forward(8000) as forward:
            await forward.wait_until_open(DEADLINE_S)
            assert await fetch(forward.url) == b"from node"


async def test_a_program_that_is_missing_is_named(backend):
    async with session_of(backend) as session:
        gone = languages.get("ruby")._replace(name="gone", command=("no-ruby", "{file}"))
        result = await session.run(apps.command_for(gone._replace(alternatives=()), "x.rb"))
        assert result.exit_code == 127
        assert "There is no no-ruby in this sandbox." in result.stderr


async def test_packages_of_a_project_are_asked_for_by_the_sessions_policy(backend):
    project = {**PROJECT, "requirements.txt": "# ours\nsix==1.*  # old\n\n"}
    async with session_of(backend, dependency_policy="none") as session:
        with pytest.raises(DependencyRefused, match="six"):
            await session.run_app(project, entry="main.py", dependencies="auto")
        assert (await session.run_app(project, entry="main.py")).stdout == "part\n"


# --- pure -------------------------------------------------------------------------------


def test_packages_are_read_from_what_projects_have():
    files = {
        "requirements.txt": b"numpy>=2\n  # comment\npandas[excel]==2.*  # why\n",
        "package.json": b'{"dependencies": {"lodash": "^4", "chalk": ""}, "devDependencies": {}}',
    }
    assert apps.wanted_packages(files) == [
        "pip:numpy>=2",
        "pip:pandas[excel]==2.*",
        "npm:lodash@^4",
        "npm:chalk",
    ]
    assert apps.wanted_packages({}) == []


@pytest.mark.parametrize(
    "content",
    ["no json", "[]", '{"dependencies": ["x"]}', '{"dependencies": {"x": 1}}', "[" * 10**6],
)
def test_a_package_json_that_is_none_is_refused(content):
    with pytest.raises(DependencyRefused, match=r"package\.json"):
        apps.wanted_packages({"package.json": content.encode()})


@pytest.mark.parametrize(
    "line",
    [
        *("--index-url http://evil", "-r other.txt", "-e .", "git+https://evil/x", "./local"),
        *("file:///etc/passwd", "x @ https://evil/x.whl", "x; python_version < '3'", "x\\"),
    ],
)
async def test_lines_that_are_no_packages_of_an_index_are_refused(line):
    from sandbox_kernel.dependencies.requirements import parse_all

    with pytest.raises(DependencyRefused):
        parse_all(apps.wanted_packages({"requirements.txt": line.encode()}), "pip")


@pytest.mark.parametrize("range_", ["git+ssh://x", "file:../x", "workspace:*", "npm:other@1"])
def test_versions_that_are_addresses_are_refused(range_):
    from sandbox_kernel.dependencies.requirements import parse_all

    content = f'{{"dependencies": {{"x": "{range_}"}}}}'.encode()
    with pytest.raises(DependencyRefused):
        parse_all(apps.wanted_packages({"package.json": content}), "npm")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            ".",
            "a\nb",
            "a\x1b[2Jb",
            "\u202egnp.x",
        ),
        *("\ud800", "a\0b", "x" * 256, "/".join("a" * 17)),
    ],
)
def test_names_that_lead_elsewhere_or_cannot_be_shown_are_refused(name):
    with pytest.raises(FileRefused, match="project"):
        apps.from_mapping({name: "x"})


def test_a_project_that_is_too_large_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(apps, "MAX_FILES", 3)
    monkeypatch.setattr(apps, "MAX_BYTES", 10)
    (tmp_path / "large").write_bytes(bytes(11))
    for attempt in (
        lambda: apps.from_mapping(dict.fromkeys("abcd", "")),
        lambda: apps.from_mapping({"a": bytes(6), "b": bytes(5)}),
        lambda: apps.from_directory(tmp_path),
    ):
        with pytest.raises(FileTooLarge):
            attempt()
    assert apps.from_mapping({"a": bytes(10)}) == {"a": bytes(10)}


def test_of_a_directory_goes_in_what_belongs_to_the_project(tmp_path):
    for name in (
        *("main.py", "src/a.js", "node_modules/x/i.js", ".git/config", "__pycache__/m.pyc"),
        *(".env", "venv/pyvenv.cfg", "venv/lib/x.py", "src/.secret"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "again.py").symlink_to("main.py")
    assert set(apps.from_directory(tmp_path)) == {"main.py", "src/a.js", "again.py"}
    hidden = apps.from_directory(tmp_path, allow_hidden=True)
    assert set(hidden) == {"main.py", "src/a.js", "again.py", ".env", "src/.secret"}


def test_no_link_leads_out_of_a_project_and_only_files_go_in(tmp_path):
    project, outside = tmp_path / "project", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("canary")
    for make in (
        lambda place: place.symlink_to(outside / "secret"),
        lambda place: place.symlink_to("../outside/secret"),
        lambda place: place.symlink_to("/proc/self/root/etc/passwd"),
        lambda place: place.symlink_to(outside),
        lambda place: place.symlink_to("."),
        lambda place: place.symlink_to("dangling"),
        lambda place: os.mkfifo(place),
    ):
        project.mkdir()
        make(project / "odd")
        with pytest.raises(FileRefused, match="'odd' is refused"):
            apps.from_directory(project)
        (project / "odd").unlink()
        project.rmdir()
    with pytest.raises(FileRefused, match="no directory"):
        apps.from_directory(project)


async def test_what_cannot_start_is_refused_before_anything_runs():
    async with Engine(backend="bubblewrap") as engine:
        session = await engine.create_session("python")
        with pytest.raises(SettingsError, match=r"no file 'x\.py' .* main\.py"):
            await session.run_app(PROJECT, entry="x.py")
        with pytest.raises(SettingsError, match="no language"):
            await session.run_app({"x.weird": ""}, entry="x.weird")
        with pytest.raises(SettingsError, match="NUL"):
            await session.run_app(PROJECT, entry="main.py", arguments=["a\0b"])
        with pytest.raises(SettingsError, match="source is 5"):
            await session.run_app(5, entry="main.py")
        with pytest.raises(SettingsError, match=r"'main\.py'"):
            await session.run_app({"main.py": 5}, entry="main.py")
        with pytest.raises(SettingsError, match="stdin is"):
            await session.run_app(PROJECT, entry="main.py", stdin=input)
        with pytest.raises(SettingsError, match="'auto'"):
            await session.run_app(PROJECT, entry="main.py", dependencies="numpy")


def test_a_command_in_the_background_is_quoted_whole():
    command = shell.in_background("echo 'a'; echo \"$b\"")
    assert "sh -c 'echo '\"'\"'a'\"'\"'; echo \"$b\"'" in command
    assert re.search(r">\.background-[0-9a-f]{8}\.log", command)


def test_an_entry_that_looks_like_an_option_is_none():
    assert "./-c.py" in apps.command_for(languages.get("python"), "-c.py")


def test_one_text_is_one_argument_and_not_its_letters():
    assert "main.py --fast" in apps.command_for(languages.get("python"), "main.py", "--fast")
