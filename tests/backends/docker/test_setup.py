"""Our images, and what making them leaves, on the engine of this machine.

Most builds here are tiny: Dockerfiles of the tests' own, on `sandbox-kernel/base`, under names
of their own, so that the machine's images stay. The Python image is the one that all tests use.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tarfile import TarFile, TarInfo
from typing import Any

import pytest

from sandbox_kernel import languages
from sandbox_kernel.backends.docker import (
    base_image,
    building,
    container,
    guest_code,
    setup,
    wheels,
)
from sandbox_kernel.backends.docker.build_errors import BuildFailed, explained, plain
from sandbox_kernel.backends.docker.building import Recipe
from sandbox_kernel.errors import SettingsError
from tests.support import docker_engine
from tests.support.engines import loaded_image
from tests.support.registry import registry

NOWHERE = "127.0.0.1:1/sandbox-kernel-tests/nothing"


@pytest.fixture(autouse=True)
def _needs_an_engine() -> None:
    docker_engine.require()


class Told:
    """A report that keeps what it was told, and may be asked to press Ctrl-C."""

    def __init__(self, interrupt_at: str | None = None) -> None:
        self.steps: list[str] = []
        self.lines: list[str] = []
        self.amounts: list[tuple[int, int]] = []
        self._interrupt_at = interrupt_at

    def step(self, text: str) -> None:
        self.steps.append(text)

    def detail(self, text: str) -> None:
        self.lines.append(text)
        if text == self._interrupt_at:
            raise KeyboardInterrupt

    def amount(self, done: int, total: int) -> None:
        self.amounts.append((done, total))


class Workshop:
    """Builds under one name and one label that nobody else has."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.token = uuid.uuid4().hex[:12]
        self.repository = f"sandbox-kernel-tests/{self.token}"
        self.api = docker_engine.api()

    def write(self, name: str, text: str) -> None:
        """A Dockerfile whose every image carries the label from its first step on."""
        (self.directory / name).write_text(
            f'ARG BASE\nFROM ${{BASE}}\nLABEL sandbox-kernel-tests="{self.token}"\n{text}\n'
        )

    def build(
        self, text: str, told: Told | None = None, *, tag: str = "once", has_network: bool = False
    ) -> str:
        self.write("once.Dockerfile", text)
        recipe = Recipe(
            "once.Dockerfile", "sandbox-kernel/base", f"{self.repository}:{tag}", {},
            has_network=has_network,
        )  # fmt: skip
        return building.build(recipe, told or Told())

    def untagged(self) -> list[str]:
        filters = {"label": f"sandbox-kernel-tests={self.token}", "dangling": True}
        return [found["Id"] for found in self.api.images(filters=filters)]

    def containers(self) -> list[str]:
        filters = {"label": f"sandbox-kernel-tests={self.token}"}
        return [found["Id"] for found in self.api.containers(all=True, filters=filters)]

    def close(self) -> None:
        names = [name for found in self.api.images() for name in found["RepoTags"] or []]
        for name in names:
            if name.startswith(self.repository):
                self.api.remove_image(name)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    monkeypatch.setattr(building, "IMAGES", tmp_path)
    monkeypatch.setattr(setup, "REPOSITORY", made.repository)
    yield made
    left = made.untagged(), made.containers()
    made.close()
    assert left == ([], [])


@pytest.fixture(scope="module")
def python_image() -> str:
    """The image as `setup docker` leaves it, built as far as it isn't there."""
    report = Told()
    base = base_image.find(None, report, last=setup.last_base())
    return next(iter(setup.build(["python"], base, report))).id


def run(image: str, *command: str, user: str = "61300:61300") -> str:
    """What a command says in a container like those of sessions: read-only, no network."""
    api = docker_engine.api()
    host = api.create_host_config(
        read_only=True, network_mode="none", tmpfs={"/tmp": ""}, cap_drop=["ALL"]
    )
    made = api.create_container(
        image, list(command), user=user, host_config=host, environment={"HOME": "/tmp"}
    )["Id"]
    try:
        api.start(made)
        code = api.wait(made)["StatusCode"]
        said = api.logs(made).decode()
    finally:
        api.remove_container(made, force=True, v=True)
    assert code == 0, said
    return said


# --- the Python image -----------------------------------------------------------------


def test_the_python_image_holds_this_versions_guest(python_image: str):
    labels = docker_engine.api().inspect_image(python_image)["Config"]["Labels"]
    assert labels[guest_code.GUEST_LABEL] == guest_code.digest()
    files = ("-type", "f", "-not", "-name", "*.pyc", "-printf", "%P\n")
    names = run(python_image, "find", "/opt/sandbox-kernel/guest", *files)
    assert set(names.split()) == set(guest_code.files())


def test_the_supervisors_python_imports_what_cells_want(python_image: str):
    """The runner is started with the supervisor's `sys.executable`."""
    find = "import sys; print(sys.executable)"
    executable = run(python_image, "python3", "-I", "-S", "-c", find).strip()
    code = "import IPython, matplotlib.pyplot, pandas; print(pandas.Series([6, 7]).prod())"
    assert run(python_image, executable, "-c", code).strip() == "42"


def test_nothing_is_left_to_compile_at_a_start(python_image: str):
    """The root is read-only: what has no bytecode is compiled again by every session."""
    code = (
        "import IPython, matplotlib.pyplot, numpy, os, pandas, sys\n"
        "for module in list(sys.modules.values()):\n"
        "    cached = getattr(module, '__cached__', None)\n"
        "    if cached and not os.path.exists(cached):\n"
        "        print(module.__name__)\n"
        "print(sum(bool(getattr(m, '__cached__', None)) for m in sys.modules.values()) > 500)\n"
    )
    assert run(python_image, "python3", "-c", code) == "True\n"
    missing = "for f in $(find /opt/sandbox-kernel/guest -name '*.py'); do d=$(dirname $f); "
    missing += "ls $d/__pycache__/$(basename $f .py).*.pyc >/dev/null 2>&1 || echo $f; done"
    assert run(python_image, "sh", "-c", missing) == ""


def test_the_image_prepares_a_home_with_fonts_and_completions(python_image: str):
    names = run(python_image, "find", "/opt/sandbox-kernel/home", "-type", "f", "-printf", "%P\n")
    assert re.search(r"^\.cache/matplotlib/fontlist-.*\.json$", names, re.MULTILINE)
    assert re.search(r"^\.cache/jedi/.*\.pkl$", names, re.MULTILINE)
    assert all(name.startswith(".cache/") for name in names.split())


def test_no_user_of_the_image_can_change_its_code_or_become_another(python_image: str):
    assert run(python_image, "find", "/opt", "!", "-user", "root") == ""
    assert run(python_image, "find", "/opt", "-perm", "/022", "!", "-type", "l") == ""
    search = "find / -xdev -perm /6000 -type f 2>/dev/null; true"
    assert run(python_image, "sh", "-c", search) == ""


def test_every_uid_that_a_container_may_get_has_a_name_and_a_group(python_image: str):
    code = (
        "import grp, pwd\n"
        f"for uid in range({container.FIRST_UID}, {container.FIRST_UID + container.UIDS}):\n"
        "    user = pwd.getpwuid(uid)\n"
        "    assert (user.pw_name, user.pw_gid, user.pw_dir) == ('sandbox', uid, '/home/sandbox')\n"
        "    assert grp.getgrgid(uid).gr_name == 'sandbox'\n"
        "print(len([user for user in pwd.getpwall() if user.pw_name == 'sandbox']))\n"
    )
    assert run(python_image, "python3", "-c", code).strip() == str(container.UIDS)


def test_the_image_has_no_wheels_and_no_package_lists(python_image: str):
    look = "ls -d /wheels /made 2>/dev/null; find /var/lib/apt/lists /var/cache/apt -size +0"
    assert run(python_image, "sh", "-c", f"{look} -type f 2>/dev/null; true") == ""


def test_the_image_starts_nothing_of_its_base(python_image: str):
    configuration = docker_engine.api().inspect_image(python_image)["Config"]
    assert not configuration["Entrypoint"]
    assert configuration["Healthcheck"]["Test"] == ["NONE"]
    assert not configuration.get("Volumes")


def test_an_image_that_is_there_costs_no_build(python_image: str):
    report = Told()
    base = base_image.find(None, report, last=setup.last_base())
    built = next(iter(setup.build(["python"], base, report)))
    assert (built.id, built.is_new, report.steps) == (python_image, False, [])


# --- steps ----------------------------------------------------------------------------


@pytest.fixture
def family(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A family `tiny` of three quick steps."""
    guest = {"supervisor.py": b"pass\n"}
    workshop.write("base.Dockerfile", "RUN echo base > /base")
    workshop.write("tiny.Dockerfile", "RUN echo packages > /packages")
    workshop.write("guest.Dockerfile", "COPY guest /opt/guest")
    monkeypatch.setattr(guest_code, "files", lambda: guest)
    monkeypatch.setattr(guest_code, "digest", lambda: "one")
    # A step with a network needs a bridge, and these need none.
    real = building.build
    monkeypatch.setattr(
        building, "build",
        lambda recipe, report, **options: real(
            recipe._replace(has_network=False), report, **options
        ),
    )  # fmt: skip
    return workshop


def build_tiny(**options: bool) -> tuple[setup.Built, Told]:
    report = Told()
    return next(iter(setup.build(["tiny"], "sandbox-kernel/base", report, **options))), report


def test_the_second_time_nothing_is_made(family: Workshop):
    first, report = build_tiny()
    assert len(report.steps) == 3
    assert first.is_new
    second, report = build_tiny()
    assert (second.id, second.is_new, report.steps) == (first.id, False, [])


def test_another_guest_makes_the_last_step_only(family: Workshop, monkeypatch: pytest.MonkeyPatch):
    before, _ = build_tiny()
    monkeypatch.setattr(guest_code, "files", lambda: {"supervisor.py": b"print()\n"})
    monkeypatch.setattr(guest_code, "digest", lambda: "two")
    after, report = build_tiny()
    assert [step.partition(":")[0] for step in report.steps] == [f"{family.repository}/tiny"]
    found = family.api.inspect_image(f"{family.repository}/tiny")
    assert found["Config"]["Labels"][guest_code.GUEST_LABEL] == "two"
    assert run(after.id, "cat", "/opt/guest/supervisor.py", "/packages") == "print()\npackages\n"
    assert building.inspect(family.api, before.id) is None


def test_another_dockerfile_makes_its_step_and_what_stands_on_it(family: Workshop):
    build_tiny()
    family.write("tiny.Dockerfile", "RUN echo others > /packages")
    made, report = build_tiny()
    assert len(report.steps) == 2
    assert run(made.id, "cat", "/packages") == "others\n"


def test_fresh_makes_every_step_anew(family: Workshop):
    before, _ = build_tiny()
    after, report = build_tiny(is_fresh=True)
    assert len(report.steps) == 3
    assert after.id != before.id


def test_the_base_of_last_time_is_remembered(family: Workshop):
    assert setup.last_base() is None
    build_tiny()
    assert setup.last_base() == "sandbox-kernel/base"
    found = base_image.find(None, Told(), last=setup.last_base())
    assert found == "sandbox-kernel/base"


def test_a_base_that_vanished_is_a_sentence(family: Workshop):
    with pytest.raises(BuildFailed, match=r"gone is not there.*--base"):
        list(setup.build(["tiny"], "sandbox-kernel-tests/gone", Told()))


def test_languages_of_one_family_are_built_once():
    assert setup.families(["perl", "lua", "perl"]) == ["scripting"]
    everything = setup.families(["all"])
    assert everything[0] == "python"
    assert {f"{name}.Dockerfile" for name in everything} <= set(os.listdir(building.IMAGES))
    with pytest.raises(SettingsError, match="fortran"):
        setup.families(["python", "fortran"])


def test_the_polyglot_image_is_one_of_all():
    assert setup.families(["polyglot", "polyglot"]) == ["polyglot"]
    assert setup.families(["all"])[-1] == "polyglot"


def test_the_polyglot_image_has_what_the_others_have():
    """Python's packages it stands on; Deno and ipykernel are among its own of PyPI."""
    lists = {name: packages_of(name) for name in os.listdir(building.IMAGES) if "." in name}
    polyglot = lists.pop("polyglot.Dockerfile")
    for name in ("base.Dockerfile", "ipykernel.Dockerfile"):
        lists.pop(name)
    assert polyglot == set().union(*lists.values())
    assert {*wheels.PACKAGES, "deno", "ipykernel"} == set(setup._WHEELS["polyglot"])


def packages_of(dockerfile: str) -> set[str]:
    """What a Dockerfile installs with apt."""
    text = (building.IMAGES / dockerfile).read_text().replace("\\\n", " ")
    found = re.findall(r"--no-install-recommends((?: +[a-z0-9][a-z0-9.+-]*)+)", text)
    return {package for each in found for package in each.split()}


SOMEBODY_ELSES = languages.Language(
    "cobol", "COBOL", ".cob", "text/x-cobol", "cobol", "cobol", "gnucobol:3", ("cobc", "{file}")
)


def test_somebody_elses_image_is_pulled_and_not_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(languages, "_registered", {"cobol": SOMEBODY_ELSES})
    assert "gnucobol:3" not in setup.families(["all"])
    with pytest.raises(SettingsError, match=r"setup docker --image gnucobol:3"):
        setup.families(["cobol"])


# --- what a build leaves --------------------------------------------------------------


def test_a_build_leaves_its_image_and_nothing_else(workshop: Workshop):
    told = Told()
    made = workshop.build("RUN echo one > /one\nRUN echo two > /two", told)
    assert run(made, "cat", "/one", "/two") == "one\ntwo\n"
    assert told.amounts[-1][0] == told.amounts[-1][1] - 1
    assert (workshop.untagged(), workshop.containers()) == ([], [])


def test_the_stages_of_a_build_are_not_left(workshop: Workshop):
    stage = f'FROM ${{BASE}}\nLABEL sandbox-kernel-tests="{workshop.token}"\n'
    workshop.build(f"RUN echo one > /one\n{stage}COPY --from=0 /one /two")
    assert workshop.untagged() == []


def test_a_failing_step_shows_its_last_lines_and_leaves_nothing(workshop: Workshop):
    step = "RUN echo one > /one\nRUN echo 'it was \\033[31mthe cable\\033[0m' >&2; exit 3"
    with pytest.raises(BuildFailed) as caught:
        workshop.build(step)
    message = str(caught.value)
    assert "returned a non-zero code: 3" in message
    assert "\n  it was the cable" in message
    assert (workshop.untagged(), workshop.containers()) == ([], [])


def test_ctrl_c_in_a_step_leaves_nothing(workshop: Workshop, monkeypatch: pytest.MonkeyPatch):
    # The engine itself ends the step, and at once: we only look.
    monkeypatch.setattr(building, "_CANCEL_S", 1000)
    with pytest.raises(KeyboardInterrupt):
        workshop.build("RUN echo one > /one\nRUN echo now; sleep 600", Told(interrupt_at="now"))
    assert (workshop.untagged(), workshop.containers()) == ([], [])
    assert building.inspect(workshop.api, f"{workshop.repository}:once") is None


def test_an_image_in_use_survives_its_successor(workshop: Workshop):
    """What a session runs from is never taken away under it."""
    old = workshop.build("RUN echo old > /age")
    host = workshop.api.create_host_config(network_mode="none")
    made = workshop.api.create_container(old, ["sleep", "600"], host_config=host)["Id"]
    workshop.api.start(made)
    try:
        new = workshop.build("RUN echo new > /age")
        assert new != old
        assert workshop.api.inspect_container(made)["State"]["Running"]
    finally:
        workshop.api.remove_container(made, force=True)
    workshop.api.remove_image(old)


def test_steps_have_a_network_only_when_they_need_one(workshop: Workshop):
    step = "RUN ls /sys/class/net > /nets"
    assert run(workshop.build(step), "cat", "/nets").split() == ["lo"]


def test_what_a_build_prints_reaches_no_terminal_as_control_characters(workshop: Workshop):
    told = Told()
    workshop.build("RUN printf 'a\\033]52;c;aGk=\\007b\\033[2Jc\\n'", told)
    assert all(line.isprintable() for line in told.lines)
    assert any(line.startswith("a") and line.endswith("c") for line in told.lines)


# --- what goes wrong ------------------------------------------------------------------


def test_a_base_without_apt_is_named_as_such(workshop: Workshop):
    images = Path(setup.__file__).parent / "images"
    without = workshop.build("RUN rm -f /usr/bin/apt-get /usr/bin/python3*", tag="without")
    (workshop.directory / "base.Dockerfile").write_text((images / "base.Dockerfile").read_text())
    recipe = Recipe("base.Dockerfile", without, f"{workshop.repository}:base", {})
    with pytest.raises(BuildFailed, match=r"has no apt.*--base.*\n.*last lines"):
        building.build(recipe, Told())


def test_apt_without_a_network_is_named_as_such(workshop: Workshop):
    with pytest.raises(BuildFailed, match=r"apt-get cannot reach.*--base"):
        workshop.build("RUN apt-get -q update && apt-get install -y no-such-package")


def test_a_base_without_anything_is_a_sentence(workshop: Workshop):
    workshop.write("once.Dockerfile", "RUN true")
    with loaded_image(workshop.api, f"{workshop.repository}/empty", {"empty": b""}) as name:
        recipe = Recipe("once.Dockerfile", name, f"{workshop.repository}:no", {})
        with pytest.raises(BuildFailed, match=r"The base has no apt.*--base"):
            building.build(recipe, Told())


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("write /wheels/x: no space left on device", "disk of the engine is full.*prune"),
        ("standard_init_linux.go:228: exec user process caused: exec format error",
         "another architecture.*--base"),
        ("ERROR: No matching distribution found for pandas", "no wheel.*--base"),
        ("something else entirely", "could not make the image: something else entirely"),
    ],
)  # fmt: skip
def test_every_known_failure_has_its_remedy(said: str, sentence: str):
    assert re.search(sentence, str(explained("The command failed", [said]))) or re.search(
        sentence, str(explained(said))
    )


def test_a_line_of_a_build_is_short_and_plain():
    assert plain("\x1b[31ma\x1b[0m\tb\r\n") == "a b"
    assert len(plain("x" * 10**6)) == 200
    assert plain("\x00\x07\u202e") == ""


# --- bases ----------------------------------------------------------------------------


def layer() -> bytes:
    """The tar of an image with one file."""
    content = BytesIO()
    with TarFile(fileobj=content, mode="w") as archive:
        member = TarInfo("hello")
        member.size = 5
        archive.addfile(member, BytesIO(b"world"))
    return content.getvalue()


@pytest.fixture
def served() -> Iterator[str]:
    name = f"tests/{uuid.uuid4().hex[:12]}"
    with registry(name, layer()) as full:
        yield full
    api = docker_engine.api()
    if building.inspect(api, full) is not None:
        api.remove_image(full)


def test_an_image_is_pulled_with_progress(served: str):
    told = Told()
    assert base_image.pull(served, told) == 5
    assert told.steps == [f"{served}: pulling"]
    assert any("Pull complete" in line for line in told.lines)
    assert building.inspect(docker_engine.api(), served) is not None


def test_a_base_that_is_there_asks_no_registry():
    assert base_image.find("sandbox-kernel/base", Told()) == "sandbox-kernel/base"


def test_a_base_that_is_not_there_is_pulled(served: str):
    told = Told()
    assert base_image.find(served, told) == served
    assert told.steps


def test_an_image_that_the_registry_lacks_is_named(served: str):
    lacking = f"{served}-not"
    with pytest.raises(BuildFailed, match=rf"no image {lacking}.*docker login"):
        base_image.pull(lacking, Told())


def test_a_registry_that_cannot_be_reached_is_a_sentence():
    with pytest.raises(BuildFailed, match=r"cannot reach the registry.*docker load"):
        base_image.pull(NOWHERE, Told())


def test_without_the_usual_base_both_ways_out_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base_image, "PULLED", f"{NOWHERE}:bookworm-slim")
    monkeypatch.setattr(base_image, "MADE", "sandbox-kernel-tests/never-made")
    with pytest.raises(BuildFailed, match=r"(?s)cannot be pulled.*--base IMAGE.*--make-base"):
        base_image.find(None, Told())


@pytest.mark.parametrize("name", ["", "-v", "a b", "a\nb", "--privileged", "a" * 600])
def test_what_is_no_name_of_an_image_is_refused(name: str):
    with pytest.raises(SettingsError, match="not the name of an image"):
        base_image.check_name(name)


def test_a_base_that_was_made_is_not_made_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(base_image, "MADE", "sandbox-kernel/base")
    told = Told()
    assert base_image.make(told) == "sandbox-kernel/base"
    assert told.steps == []


def test_making_a_base_needs_a_tool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base_image, "MADE", "sandbox-kernel-tests/never-made")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildFailed, match=r"mmdebstrap.*apt-get install.*--base"):
        base_image.make(Told())


def test_making_a_base_needs_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    tool = tmp_path / "mmdebstrap"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setattr(base_image, "MADE", "sandbox-kernel-tests/never-made")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BuildFailed, match=r"needs root.*sudo.*--base"):
        base_image.make(Told())


def test_a_tool_that_fails_imports_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    tool = tmp_path / "mmdebstrap"
    tool.write_text("#!/bin/sh\necho E: no mirror here >&2\nexit 25\n")
    tool.chmod(0o755)
    monkeypatch.setattr(base_image, "MADE", "sandbox-kernel-tests/never-made")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(BuildFailed, match=r"(?s)code 25.*network.*E: no mirror here"):
        base_image.make(Told())
    assert building.inspect(docker_engine.api(), "sandbox-kernel-tests/never-made") is None


# --- wheels ---------------------------------------------------------------------------


def test_the_python_of_an_image_is_asked_in_a_container():
    target = wheels.ask(docker_engine.api(), "sandbox-kernel/base")
    assert re.fullmatch(r"3\.\d+", target.version)
    assert target.glibc >= 17


@pytest.mark.parametrize("said", ["3.11 x86_64 ", "3.11 x86_64 2.36; rm -rf /", "2.7 vax 2.36", ""])
def test_a_python_without_wheels_is_refused(workshop: Workshop, said: str):
    fake = f"printf '#!/bin/sh\\necho \"{said}\"\\n' > /usr/bin/python3"
    made = workshop.build(f"RUN rm /usr/bin/python3 && {fake} && chmod 755 /usr/bin/python3")
    with pytest.raises(BuildFailed, match=r"Python of the base is none.*--base"):
        wheels.ask(docker_engine.api(), made)


def test_wheels_that_cannot_be_downloaded_are_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    target = wheels.Target("3.11", "x86_64", 36)
    with pytest.raises(BuildFailed, match=r"pip cannot download.*sandbox-kernel-no-such-package"):
        wheels.download(["sandbox-kernel-no-such-package"], target, tmp_path, Told())


def test_two_setups_at_a_time_wait_for_each_other(
    family: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The second says that it waits; here the first is over when it does."""
    import fcntl

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "sandbox-kernel").mkdir(parents=True)
    held = (tmp_path / "cache" / "sandbox-kernel" / "setup-docker.lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)

    class Releasing(Told):
        def step(self, text: str) -> None:
            super().step(text)
            held.close()

    told: Any = Releasing()
    list(setup.build(["tiny"], "sandbox-kernel/base", told))
    assert told.steps[0] == "waiting for another setup to end"
    assert len(told.steps) == 4
