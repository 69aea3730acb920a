"""Which environments are found, and which are refused."""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
import venv

import pytest

from sandbox_kernel.backends.bubblewrap import environment
from sandbox_kernel.errors import SettingsError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def script(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_our_own_environment_needs_no_process():
    found = environment.discover()
    assert (found.executable, found.prefix, found.base_prefix) == (
        sys.executable,
        sys.prefix,
        sys.base_prefix,
    )
    assert found.version == sysconfig.get_config_var("py_version")


def test_a_virtual_environment_is_asked_once(tmp_path, monkeypatch):
    venv.create(tmp_path / "env", with_pip=False)
    python = str(tmp_path / "env/bin/python")
    found = environment.discover(python)
    assert found.prefix == str(tmp_path / "env")
    assert found.base_prefix == sys.base_prefix
    assert found.is_virtual
    monkeypatch.setattr(environment, "_ask", lambda path: pytest.fail("it was asked again"))
    assert environment.discover(python) == found


def test_a_changed_interpreter_is_asked_again(tmp_path):
    python = tmp_path / "python"
    answer = "\\000".join([sys.prefix, sys.prefix, sys.executable, "", "{}", ""])
    script(python, "#!/bin/sh\nprintf '" + answer.format("3.9.1") + "'\n")
    assert environment.discover(str(python)).version == "3.9.1"
    script(python, "#!/bin/sh\nprintf '" + answer.format("3.12.1") + "'\n")
    os.utime(python, (1, 1))
    assert environment.discover(str(python)).version == "3.12.1"


def test_missing_python_is_named(tmp_path):
    with pytest.raises(SettingsError, match="There is no Python at '/nowhere/python'"):
        environment.discover("/nowhere/python")
    with pytest.raises(SettingsError, match="There is no Python"):
        environment.discover(str(tmp_path))


def test_file_that_may_not_be_executed_is_named(tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\n")
    with pytest.raises(SettingsError, match="may not be executed"):
        environment.discover(str(tmp_path / "python"))


@pytest.mark.parametrize(
    "text",
    ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho hello\n", "not a program at all", "#!/nowhere/sh\n"],
)
def test_what_is_no_python_is_refused(tmp_path, text):
    with pytest.raises(SettingsError, match=r"not a Python|does not work as a Python"):
        environment.discover(script(tmp_path / "python", text))


def test_python_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "QUESTION_TIMEOUT_S", 0.2)
    with pytest.raises(SettingsError, match="did not answer"):
        environment.discover(script(tmp_path / "python", "#!/bin/sh\nexec sleep 60\n"))


def test_old_python_is_refused(tmp_path):
    answer = "\\000".join([sys.prefix, sys.prefix, sys.executable, "", "3.7.9", ""])
    with pytest.raises(SettingsError, match=r"3\.8 or newer"):
        environment.discover(script(tmp_path / "python", f"#!/bin/sh\nprintf '{answer}'\n"))


@pytest.mark.parametrize("prefix", ["home", "home/..", "/", "/etc", "/proc", "link"])
def test_environments_that_would_show_private_files_are_refused(tmp_path, monkeypatch, prefix):
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = os.path.join(tmp_path, prefix)
    answer = "\\000".join([path, path, sys.executable, "", "3.11.7", ""])
    with pytest.raises(SettingsError, match="must not see"):
        environment.discover(script(tmp_path / "python", f"#!/bin/sh\nprintf '{answer}'\n"))


def test_environment_with_jupyters_connection_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "env/share/runtime"))
    venv.create(tmp_path / "env", with_pip=False)
    with pytest.raises(SettingsError, match="connection files"):
        environment.discover(str(tmp_path / "env/bin/python"))


def test_environment_in_a_home_is_fine(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    venv.create(tmp_path / "project/.venv", with_pip=False)
    found = environment.discover(str(tmp_path / "project/.venv/bin/python"))
    assert found.prefix == str(tmp_path / "project/.venv")


def test_cache_that_cannot_be_written_is_no_error(tmp_path, own_cache):
    own_cache.write_text("a file where a directory should be")
    venv.create(tmp_path / "env", with_pip=False)
    assert environment.discover(str(tmp_path / "env/bin/python")).is_virtual
