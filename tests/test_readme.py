"""What the README says is true: its commands, tables, defaults and links.

Every command in a fenced block has a row in `CHECKS`, which runs it or the nearest thing to it
that leaves the machine as it was; a new command without one fails here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox_kernel import kernelspecs, languages
from sandbox_kernel.backends.docker import engine
from sandbox_kernel.cli import build_parser, main
from sandbox_kernel.cli.options import chosen_settings
from sandbox_kernel.dependencies import requirements
from sandbox_kernel.kernel import ask, magics
from sandbox_kernel.limits import Limits
from sandbox_kernel.settings import TABLE, Settings
from tests import run
from tests.support import docker_engine

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "SECURITY.md", "CHANGELOG.md", "notebooks/data/README.md"]

DEMO = (
    "python3 -m venv .venv && .venv/bin/pip install -e '.[demo]' && .venv/bin/sandbox-kernel demo"
)
TESTS = (
    "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/python tests/run.py"
)
# Downloads of half a gigabyte, when the package index is slow.
INSTALL_TIMEOUT_S = 900


def _blocks() -> list[tuple[str, str]]:
    return re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _commands() -> list[str]:
    return [line for kind, text in _blocks() if kind == "sh" for line in text.splitlines() if line]


def _rows(heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its two head lines."""
    section = README.split(f"{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# --- commands ---------------------------------------------------------------------------


def _parses(command: str, folder: Path) -> None:
    """A `sandbox-kernel` line: the real parser takes it, and its settings make sense."""
    arguments = build_parser().parse_args(shlex.split(command)[1:])
    Settings.load(chosen_settings(arguments), environ={"HOME": str(folder)})


def _sets_up(command: str, folder: Path) -> None:
    """Building takes minutes and pulling a registry: what is asked for exists."""
    from sandbox_kernel.backends.docker import setup

    arguments = build_parser().parse_args(shlex.split(command)[1:])
    assert setup.families(arguments.language or ["python"])


def _installs(command: str, folder: Path) -> None:
    """For a folder in place of this user; and the kernel reads what was written."""
    arguments = build_parser().parse_args(shlex.split(command)[1:])
    chosen = chosen_settings(arguments)
    if chosen.get("language") == "all":
        assert main([*shlex.split(command.replace("--user", f"--prefix {folder}"))[1:]]) == 0
        assert (kernelspecs.directory_for(str(folder)) / "sandbox-sql").is_dir()
        return
    spec = kernelspecs.install(
        chosen, name=arguments.name, display_name=arguments.display_name, prefix=str(folder)
    )
    written = kernelspecs.read(spec.directory)
    assert written is not None
    assert written.options == chosen
    Settings.load(written.options, environ={"HOME": str(folder)})


def _runs(command: str, folder: Path) -> str:
    """Run a line in a copy of `notebooks/`, with this environment's commands first."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env={**os.environ, "PATH": path, "JUPYTER_CONSOLE_TEST": "1"},
        input="print(6 * 7)\nexit\n",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _answers(command: str, folder: Path) -> None:
    """Run what reads lines of Python, and look for the answer to one."""
    assert "42" in _runs(command, folder)


def _starts(command: str, folder: Path) -> None:
    """What would not come back by itself: its program is there and answers `--version`."""
    _runs(f"{command} --version", folder)


def _extras_exist(command: str, folder: Path) -> None:
    known = _project()["optional-dependencies"]
    for extra in re.findall(r"\.\[(\w+)\]", command):
        assert extra in known


def _is_in_ci(command: str, folder: Path) -> None:
    """Too long to run within itself: CI runs every tool that it names."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for program in re.findall(r"\.venv/bin/(\w+ ?\w*)", command):
        assert program.split()[0] in script


def _is_the_test_command(command: str, folder: Path) -> None:
    assert command == TESTS
    _extras_exist(command, folder)
    # CI looks for its command here: the first line that names the script.
    assert next(line for line in README.splitlines() if "tests/run.py" in line) == command
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def _is_the_demo_command(command: str, folder: Path) -> None:
    """`test_the_first_command_…` runs it whole."""
    assert command == DEMO
    _extras_exist(command, folder)
    _parses("sandbox-kernel demo", folder)


def _names_a_test_option(command: str, folder: Path) -> None:
    script = shlex.split(command)[1]
    assert (ROOT / script).is_file()


# The first pattern that matches tells how a line is checked.
CHECKS: list[tuple[str, Callable[[str, Path], object]]] = [
    (r"sandbox-kernel setup ", _sets_up),
    (r"sandbox-kernel install ", _installs),
    (r"sandbox-kernel ", _parses),
    (r"python3 -m venv .*demo$", _is_the_demo_command),
    (r"python3 -m venv .*run\.py$", _is_the_test_command),
    (r"pip install ", _extras_exist),
    (r"jupyter lab$", _starts),
    (r"jupyter console ", _answers),
    (r"(jupyter|papermill) ", _runs),
    (r"\.venv/bin/python tests/run\.py ", _names_a_test_option),
    (r"\.venv/bin/(ruff|mypy)", _is_in_ci),
]


@pytest.mark.parametrize("command", _commands())
def test_a_command_of_the_readme_works(command, tmp_path):
    check = next((check for pattern, check in CHECKS if re.match(pattern, command)), None)
    assert check is not None, "CHECKS in this file has no row for it."
    check(command, tmp_path)


def test_every_fenced_block_is_of_a_kind_that_is_checked():
    assert {kind for kind, _ in _blocks()} <= {"sh", "text", "python"}


def test_its_language_in_one_object_is_one_that_can_be_registered(monkeypatch):
    (code,) = [text for kind, text in _blocks() if kind == "python" and "RUBY" in text]
    monkeypatch.setattr(languages, "_registered", {})
    made: dict[str, languages.Language] = {}
    exec(code, {}, made)
    languages.register(made["RUBY"])
    assert languages.get("ruby").runner_argv[-1] == "{file}"


def test_its_program_prints_what_it_says(tmp_path):
    (code,) = [text for kind, text in _blocks() if kind == "python" and "Engine" in text]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=110
    )
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[0] == "3", done.stderr
    assert re.fullmatch(r"True 6 0 [\d.]+(e-\d+)?", lines[1])
    assert lines[2:] == ["IndexError: list index out of range", "2"]


def test_its_configuration_of_an_mcp_client_starts_the_server():
    (text,) = [text for kind, text in _blocks() if kind == "text" and "mcpServers" in text]
    (server,) = json.loads(text)["mcpServers"].values()
    arguments = build_parser().parse_args(server["args"])
    assert server["command"] == "sandbox-kernel"
    assert arguments.execute.__module__ == "sandbox_kernel.cli.mcp"


def test_its_packages_are_names_that_a_cell_may_ask_for():
    (line,) = [text for kind, text in _blocks() if kind == "text" and text.startswith("%")]
    lines, rest = magics.split(line)
    assert magics.is_blank(rest)
    (command,) = lines
    found = requirements.parse_all(command.split()[1:], "pip")
    assert [item.ecosystem for item in found] == ["apt", "npm", "pip", "pip"]


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_TIMEOUT_S + 60)
def test_the_first_command_leads_from_a_fresh_clone_to_an_executed_demo(tmp_path):
    if not _package_index_answers(tmp_path):
        pytest.skip("No package index answers, so a new environment cannot be filled.")
    clone = _clone(tmp_path / "clone")
    done = subprocess.run(
        ["/bin/sh", "-c", DEMO],
        cwd=clone,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    made = {path.name for path in (clone / "demo-output").rglob("*")}
    skipped = set(re.findall(r"^Skipped (\S+\.ipynb): .*setup docker", done.stdout, re.MULTILINE))
    assert not (skipped and docker_engine.is_required()), done.stdout[-4000:]
    # The demo has no language model.
    skipped |= set(re.findall(r"^Skipped (13-agents\.ipynb): it needs ", done.stdout, re.MULTILINE))
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert notebook.name in skipped or {notebook.name, f"{notebook.stem}.html"} <= made


def _package_index_answers(folder: Path) -> bool:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "six"]
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _clone(target: Path) -> Path:
    """The work tree as a clone would have it, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


# --- the test command's own installer -----------------------------------------------------


def test_nothing_is_installed_where_nothing_is_missing(monkeypatch):
    monkeypatch.setattr(run, "missing_packages", list)
    monkeypatch.setattr(run, "_install", lambda packages: pytest.fail(f"installs {packages}"))
    assert run.provide() == []


def _which_finds_only_apt(program: str, **_: object) -> str | None:
    return "/usr/bin/apt-get" if program == "apt-get" else None


def test_who_is_not_root_is_told_what_is_missing_and_goes_on(monkeypatch):
    monkeypatch.setattr(run.shutil, "which", _which_finds_only_apt)
    monkeypatch.setattr(run.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(run, "_install", lambda packages: pytest.fail(f"installs {packages}"))
    (line,) = run.provide()
    assert "no chromium" in line
    assert "sudo apt-get install chromium" in line


def test_root_on_debian_gets_what_is_missing(monkeypatch):
    monkeypatch.setattr(run.shutil, "which", _which_finds_only_apt)
    monkeypatch.setattr(run.os, "geteuid", lambda: 0)
    monkeypatch.setattr(run, "_install", lambda packages: " ".join(packages))
    (line,) = run.provide()
    assert "chromium" in line


# --- tables -----------------------------------------------------------------------------


def _described() -> dict[str, str]:
    """Setting -> default, from both tables."""
    rows = [*_rows("## Settings"), *_rows("### Limits")]
    return {row[0].strip("`"): row[1].strip("`") for row in rows}


def test_the_tables_name_every_setting_and_its_default():
    defaults = {row.name: row.default for row in TABLE}
    shown = _described()
    assert list(shown) == list(defaults)
    for name, default in defaults.items():
        # No default is written in words: "none", or what takes its place.
        assert shown[name] == default or (not default and shown[name]), name


def test_the_limits_table_says_what_limits_really_are_by_default():
    by_field = {row.field: _described()[row.name] for row in TABLE if row.is_limit}
    assert Limits.parse(by_field) == Limits()
    assert set(by_field) == set(Limits._fields)


def test_the_sandbox_lines_of_its_table_are_all_there_are():
    rows = [row[0].strip("`") for row in _rows("never reach the code:\n")]
    lines = [line for line in rows if line.startswith(magics.MAGIC)]
    verbs = [line.split()[1] for line in lines]
    with pytest.raises(magics.UsageError) as told:
        magics.parse("unheard-of")
    assert str(told.value).endswith("there are " + ", ".join(sorted(verbs, key=_ORDER.index)) + ".")
    for line in lines:
        # Once with all that is in brackets, once without.
        assert magics.parse(re.sub(r"[\[\]]", "", line).split(" ", 1)[1]).verb in verbs
        assert magics.parse(re.sub(r" \[[^]]*\]", "", line).split(" ", 1)[1]).verb in verbs


def test_the_ask_line_of_its_table_has_the_options_that_there_are():
    (line,) = [row[0].strip("`") for row in _rows("never reach the code:\n") if ask.MAGIC in row[0]]
    options = set(re.findall(r"--\w+", line))
    assert options == set(re.findall(r"--\w+", ask.USAGE)) - {"--run"}  # which is the usual
    asked = ask.read(re.sub(r"[\[\]]", "", line).replace(" N ", " 2 "))
    assert asked == ask.Asked("PROMPT", is_run=False, is_new=True, max_repairs=2)


_ORDER = ["files", "get", "put", "status", "share", "dependencies", "help"]


def test_the_languages_that_it_names_are_all_there_are():
    named = re.search(r"Ours are for (.*?);", README, re.DOTALL)
    assert named is not None
    assert sorted(re.findall(r"`(\w+)`", named[1])) == sorted(languages.names())


def test_the_oldest_engine_that_it_names_is_the_oldest_that_works():
    named = re.search(r"Docker Engine 20\.10 \(API (\d+\.\d+)\) or newer", README)
    assert named is not None
    assert named[1] == engine.API_VERSION


def test_the_python_that_it_asks_for_is_the_one_that_the_package_does():
    asked = re.search(r"needs Linux, Python (3\.\d+)", README)
    assert asked is not None
    assert _project()["requires-python"] == f">={asked[1]}"


def test_the_entry_point_it_calls_is_installed():
    assert _project()["scripts"] == {"sandbox-kernel": "sandbox_kernel.cli:main"}


def _project() -> dict[str, dict[str, str]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


# --- links ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_to_a_file_or_a_heading(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    headings = {_anchor(line) for line in text.splitlines() if line.startswith("#")}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        assert not path or (ROOT / page).parent.joinpath(path).exists(), target
        assert path or anchor in headings, target


def _anchor(heading: str) -> str:
    words = heading.lstrip("#").strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
