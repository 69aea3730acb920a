"""`install`, `list`, `remove`, in prefixes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    return tmp_path / "prefix" / "share" / "jupyter" / "kernels"


@pytest.fixture
def seen(kernels: Path) -> dict[str, str]:
    """Variables with which Jupyter looks into the prefix."""
    return {"JUPYTER_PATH": str(kernels.parent)}


@pytest.fixture
def install(command, kernels):
    def call(*words: str, **variables: str):
        done = command("install", "--prefix", str(kernels.parents[2]), *words, **variables)
        assert done.returncode == 0, done.stderr
        return done

    return call


def read(directory: Path) -> dict:
    return json.loads((directory / "kernel.json").read_text())


def test_the_kernelspec_starts_this_interpreter_by_its_absolute_path(install, kernels):
    install()
    content = read(kernels / "sandbox-python")
    assert content["argv"] == [
        *[sys.executable, "-P", "-m", "sandbox_kernel.kernel", "-f", "{connection_file}"]
    ]
    assert content["display_name"] == "Python (sandbox)"
    assert content["language"] == "python"
    assert content["interrupt_mode"] == "message"
    assert content["metadata"] == {"supported_encryption": ["curve"]}


def test_the_kernelspec_has_the_logos(install, kernels):
    install()
    found = sorted(path.name for path in (kernels / "sandbox-python").iterdir())
    assert found == ["kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"]


def test_settings_become_arguments_of_the_kernel(install, kernels):
    install("--name", "small", "--memory", "512m", "--env", "A=1,2", "--env", "B=2", "--cpus=1")
    content = read(kernels / "small")
    assert content["argv"][6:] == ["--env=A=1,2", "--env=B=2", "--memory=512m", "--cpus=1"]
    assert content["display_name"] == "Python (small)"


def test_a_kernel_with_containers_stands_beside_the_usual_one(install, kernels):
    install()
    install("--backend", "docker", "--image", "ruby:3.2-alpine", "--mount", "/srv:/srv:ro")
    content = read(kernels / "sandbox-python-docker")
    assert content["display_name"] == "Python (sandbox, docker)"
    assert content["argv"][6:] == [
        *("--backend=docker", "--image=ruby:3.2-alpine", "--mount=/srv:/srv:ro")
    ]
    assert (kernels / "sandbox-python" / "kernel.json").exists()


def test_a_relative_interpreter_is_written_as_an_absolute_path(install, kernels, tmp_path):
    (tmp_path / "python").symlink_to(sys.executable)
    install("--python", "python")
    assert f"--python={tmp_path / 'python'}" in read(kernels / "sandbox-python")["argv"]


def test_jupyter_itself_finds_and_reads_the_kernelspec(install, kernels, environment, seen):
    install("--display-name", "Für Versuche")
    done = subprocess.run(
        [sys.executable, "-m", "jupyter_client.kernelspecapp", "list", "--json"],
        capture_output=True,
        text=True,
        env=environment | seen,
        timeout=60,
    )
    spec = json.loads(done.stdout)["kernelspecs"]["sandbox-python"]
    assert spec["resource_dir"] == str(kernels / "sandbox-python")
    assert spec["spec"]["display_name"] == "Für Versuche"


def test_installing_again_replaces_ours_whole(install, kernels):
    install("--memory", "512m")
    (kernels / "sandbox-python" / "stale").touch()
    install()
    assert "--memory=512m" not in read(kernels / "sandbox-python")["argv"]
    assert not (kernels / "sandbox-python" / "stale").exists()
    assert os.listdir(kernels) == ["sandbox-python"]


def test_somebody_elses_kernelspec_is_kept_unless_forced(command, install, kernels):
    foreign = kernels / "sandbox-python"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text('{"argv": ["ir"]}')
    done = command("install", "--prefix", str(kernels.parents[2]))
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert read(foreign) == {"argv": ["ir"]}

    install("--force")
    assert "sandbox_kernel.kernel" in read(foreign)["argv"]


def test_nothing_is_written_when_a_setting_is_wrong(command, kernels):
    done = command("install", "--prefix", str(kernels.parents[2]), "--memory", "2x")
    assert done.returncode == 2
    assert not kernels.exists()


def test_a_prefix_that_cannot_be_written_is_one_clear_line(command, tmp_path):
    (tmp_path / "file").touch()
    done = command("install", "--prefix", str(tmp_path / "file"))
    assert done.returncode == 1
    assert "Not a directory" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_prefix_that_jupyter_does_not_search_is_said(install, kernels):
    done = install("--name", "elsewhere")
    assert f"JUPYTER_PATH={kernels.parent}" in done.stderr


def test_for_the_user_it_goes_into_the_home_directory(command, home):
    done = command("install", "--user", "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert read(home / ".local/share/jupyter/kernels/mine")["argv"][0] == sys.executable
    assert done.stderr == ""


def test_only_one_place_can_be_chosen(command):
    assert command("install", "--user", "--prefix", "x").returncode == 2


# --- languages ------------------------------------------------------------------------


@pytest.fixture
def only_bash(tmp_path: Path) -> str:
    """The argument that leaves guests one program besides Python: Bash."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bash").symlink_to("/bin/bash")
    return f"--env=PATH={tmp_path / 'bin'}"


def test_all_installs_what_can_run_and_says_what_the_others_lack(install, kernels, only_bash):
    done = install("--language", "all", "--memory", "1g", only_bash)
    assert sorted(os.listdir(kernels)) == ["sandbox-bash", "sandbox-python", "sandbox-sql"]
    assert "Installed the kernel sandbox-bash (Bash (sandbox))" in done.stdout
    ruby = next(line for line in done.stdout.splitlines() if "Ruby" in line)
    assert ruby.startswith("Skipped Ruby: There is no ruby in ")
    assert "nstall" in ruby  # the remedy
    content = read(kernels / "sandbox-bash")
    assert content["argv"][6:] == ["--language=bash", only_bash, "--memory=1g"]
    assert content["language"] == "bash"
    assert (kernels / "sandbox-bash" / "logo-svg.svg").exists()


def test_all_is_an_error_when_nothing_can_run(command, kernels, tmp_path):
    words = ("--prefix", str(kernels.parents[2]), "--language", "all", "--backend", "docker")
    done = command("install", *words, DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert done.returncode == 1
    assert "Skipped Python: There is no engine at" in done.stdout
    assert not kernels.exists()


def test_all_goes_past_a_kernelspec_that_is_somebody_elses(install, kernels, only_bash):
    foreign = kernels / "sandbox-bash"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text('{"argv": ["bash_kernel"]}')
    done = install("--language", "all", only_bash)
    assert "Skipped Bash: " in done.stdout
    assert "--force" in done.stdout
    assert read(foreign) == {"argv": ["bash_kernel"]}
    assert (kernels / "sandbox-sql").exists()


def test_all_says_once_that_jupyter_does_not_look_there(install, only_bash):
    done = install("--language", "all", only_bash)
    assert done.stderr.count("JUPYTER_PATH=") == 1


@pytest.mark.parametrize("words", [["--name", "x"], ["--display-name", "X"]])
def test_one_name_is_not_for_all(command, kernels, words):
    done = command("install", "--prefix", str(kernels.parents[2]), "--language", "all", *words)
    assert done.returncode == 2
    assert "are for one kernel" in done.stderr
    assert not kernels.exists()


def test_all_checks_the_settings_before_anything_is_written(command, kernels):
    words = ("--prefix", str(kernels.parents[2]), "--language", "all", "--memory", "2x")
    done = command("install", *words)
    assert done.returncode == 2
    assert not kernels.exists()


def test_a_language_that_cannot_run_is_refused_with_the_remedy(
    command, install, kernels, only_bash
):
    words = ("--language", "ruby", only_bash)
    done = command("install", "--prefix", str(kernels.parents[2]), *words)
    assert done.returncode == 1
    assert "Ruby cannot run here: There is no ruby in " in done.stderr
    assert "--no-check" in done.stderr
    assert not kernels.exists()

    install(*words, "--no-check")
    assert "--language=ruby" in read(kernels / "sandbox-ruby")["argv"]


def test_an_engine_that_is_down_is_no_reason_to_refuse(install, kernels, tmp_path):
    nowhere = f"unix://{tmp_path}/none.sock"
    done = install("--language", "ruby", "--backend", "docker", DOCKER_HOST=nowhere)
    assert "It cannot start yet: There is no engine at" in done.stderr
    assert (kernels / "sandbox-ruby-docker").exists()


# --- list and remove ------------------------------------------------------------------


def test_list_shows_name_limits_and_place(install, command, kernels, seen):
    install("--name", "small", "--memory", "512m", "--timeout", "90")
    done = command("list", **seen)
    assert done.returncode == 0
    assert "512 MiB memory" in done.stdout
    assert "90 s a cell" in done.stdout
    assert str(kernels / "small") in done.stdout


def test_list_shows_ours_only(install, command, kernels, seen):
    install("--name", "small")
    (kernels / "foreign").mkdir()
    (kernels / "foreign" / "kernel.json").write_text('{"argv": ["ir"], "display_name": "R"}')
    assert "foreign" not in command("list", **seen).stdout


def test_list_survives_what_is_not_a_kernelspec(install, command, kernels, seen):
    install("--name", "small")
    for name, text in [("a", "["), ("b", "[]"), ("c", '{"argv": 3}'), ("d", '{"argv": [1]}')]:
        (kernels / name).mkdir()
        (kernels / name / "kernel.json").write_text(text)
    done = command("list", **seen)
    assert done.returncode == 0, done.stderr
    assert "small" in done.stdout


def test_list_says_what_is_wrong_with_settings_of_an_old_kernelspec(
    install, command, kernels, seen
):
    install("--name", "old")
    path = kernels / "old" / "kernel.json"
    path.write_text(
        path.read_text().replace('"{connection_file}"', '"{connection_file}", "--gpus=1"')
    )
    done = command("list", **seen)
    assert done.returncode == 0
    assert "There is no setting 'gpus'" in done.stdout


def test_remove_takes_ours_away(install, command, kernels, seen):
    install("--name", "small")
    done = command("remove", "small", **seen)
    assert done.returncode == 0, done.stderr
    assert not (kernels / "small").exists()


def test_remove_leaves_what_is_not_ours(command, kernels, seen):
    foreign = kernels / "foreign"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text('{"argv": ["ir"]}')
    done = command("remove", "foreign", **seen)
    assert done.returncode == 2
    assert "jupyter kernelspec remove foreign" in done.stderr
    assert foreign.exists()


def test_remove_of_a_link_leaves_what_it_points_to(install, command, kernels, seen, tmp_path):
    install("--name", "small")
    target = tmp_path / "target"
    (kernels / "small").rename(target)
    (kernels / "small").symlink_to(target)
    assert command("remove", "small", **seen).returncode == 0
    assert (target / "kernel.json").exists()
    assert not (kernels / "small").is_symlink()
