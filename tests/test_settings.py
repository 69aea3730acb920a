"""Settings: who wins, and what is refused."""

import os
import pickle
from pathlib import Path

import pytest

from sandbox_kernel import backends, languages, settings
from sandbox_kernel.backends.base import Mount
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.limits import GIB, MIB, Limits
from sandbox_kernel.settings import TABLE, Settings


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with a settings file of its own that does not exist yet."""
    return {"XDG_CONFIG_HOME": str(tmp_path)}


@pytest.fixture
def write_file(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "sandbox-kernel" / "settings.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# --- who wins -------------------------------------------------------------------------


def test_with_nothing_said_the_defaults_are_those_of_limits(environ):
    loaded = Settings.load(environ=environ)
    assert loaded.limits == Limits()
    assert (loaded.backend, loaded.network, loaded.outputs) == ("auto", "none", "safe")
    assert (loaded.language, loaded.python, loaded.image) == ("python", None, None)
    assert loaded.environment == {}
    assert set(loaded.sources.values()) == {"default"}


def test_every_setting_has_a_source_and_a_text(environ):
    loaded = Settings.load(environ=environ)
    assert set(loaded.sources) == set(loaded.texts) == {row.name for row in TABLE}


def test_the_settings_file_beats_the_defaults(environ, write_file):
    path = write_file('memory = "512m"\ncpus = 1\n')
    loaded = Settings.load(environ=environ)
    assert (loaded.limits.memory_bytes, loaded.limits.cpus) == (512 * MIB, 1.0)
    assert loaded.sources["memory"] == f"settings file {path}"


def test_the_environment_beats_the_settings_file(environ, write_file):
    write_file('memory = "512m"\n')
    loaded = Settings.load(environ=environ | {"SANDBOX_KERNEL_MEMORY": "1g"})
    assert loaded.limits.memory_bytes == GIB
    assert loaded.sources["memory"] == "environment SANDBOX_KERNEL_MEMORY"


def test_the_kernelspec_beats_everything(environ, write_file):
    write_file('memory = "512m"\n')
    loaded = Settings.load({"memory": "3g"}, environ=environ | {"SANDBOX_KERNEL_MEMORY": "1g"})
    assert loaded.limits.memory_bytes == 3 * GIB
    assert loaded.sources["memory"] == "kernelspec"


def test_an_adapters_defaults_are_weaker_than_the_settings_file(environ, write_file):
    assert Settings.load(environ=environ, defaults={"timeout": "60s"}).limits.timeout_s == 60
    write_file('timeout = "5s"\n')
    assert Settings.load(environ=environ, defaults={"timeout": "60s"}).limits.timeout_s == 5


def test_a_file_that_someone_names_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("processes = 64\n")
    loaded = Settings.load(environ={"SANDBOX_KERNEL_SETTINGS": str(path)})
    assert loaded.limits.processes == 64


def test_without_xdg_the_file_is_in_the_home_directory(tmp_path):
    path, is_named = settings.settings_path({"HOME": str(tmp_path)})
    assert path == str(tmp_path / ".config" / "sandbox-kernel" / "settings.toml")
    assert not is_named


def test_an_empty_variable_counts_as_unset(environ):
    assert Settings.load(environ=environ | {"SANDBOX_KERNEL_MEMORY": ""}).limits == Limits()


# --- spellings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("memory", "512MiB", "memory_bytes", 512 * MIB),
        ("cpus", "0.5", "cpus", 0.5),
        ("processes", "64", "processes", 64),
        ("workspace", "100m", "workspace_bytes", 100 * MIB),
        ("workspace-inodes", "5000", "workspace_inodes", 5000),
        ("open_files", "256", "open_files", 256),
        ("output", "0", "output_bytes", 0),
        ("output", "all", "output_bytes", 0),
        ("output", "ALL", "output_bytes", 0),
        ("artifact", "1m", "artifact_bytes", MIB),
        ("displays", "10", "displays", 10),
        ("artifacts", "0", "artifacts", 0),
        ("timeout", "2m", "timeout_s", 120.0),
        ("timeout", "none", "timeout_s", None),
        ("interrupt-grace", "500ms", "interrupt_grace_s", 0.5),
    ],
)
def test_a_limit_is_written_as_people_write_it(environ, name, text, field, value):
    assert getattr(Settings.load({name: text}, environ=environ).limits, field) == value


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("TZ=UTC", {"TZ": "UTC"}),
        ("A=1,B=2", {"A": "1", "B": "2"}),
        ("A=1,2,3,B=x=y", {"A": "1,2,3", "B": "x=y"}),
        ("A=1\nB=2, 3", {"A": "1", "B": "2, 3"}),
        ("A=", {"A": ""}),
    ],
)
def test_variables_are_a_list_of_assignments(environ, text, variables):
    assert Settings.load({"env": text}, environ=environ).environment == variables


@pytest.mark.parametrize("text", ['[env]\nA = "1"\nB = 2\n', 'env = ["A=1", "B=2"]\n'])
def test_variables_in_the_file_are_a_table_or_a_list(environ, write_file, text):
    write_file(text)
    assert Settings.load(environ=environ).environment == {"A": "1", "B": "2"}


def test_mounts_are_directories_of_the_host_or_tmpfs_a_line_each(environ):
    text = "/srv/data:/data\n~/out:/workspace/out:rw\ntmpfs:/cache:64m\n"
    assert Settings.load({"mount": text}, environ=environ).mounts == (
        Mount("/data", "/srv/data"),
        Mount("/workspace/out", os.path.expanduser("~/out"), is_writable=True),
        Mount("/cache", size_bytes=64 * MIB),
    )
    assert Settings.load(environ=environ).mounts == ()


def test_mounts_in_the_file_are_a_list(environ, write_file):
    write_file('mount = ["/srv/a:/a", "/srv/b:/b"]\n')
    mounts = Settings.load(environ=environ).mounts
    assert [mount.guest_path for mount in mounts] == ["/a", "/b"]


def test_a_runtime_is_a_name(environ):
    for name in ("runsc", "kata", "io.containerd.kata.v2"):
        assert Settings.load({"runtime": name}, environ=environ).runtime == name
    assert Settings.load(environ=environ).runtime is None


def test_python_is_a_path_to_an_executable(environ):
    assert Settings.load({"python": "/bin/sh"}, environ=environ).python == "/bin/sh"


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("memory", "2x", "not a size"),
        ("memory", "1k", "outside of"),
        ("memory", "-1", "not a size"),
        ("memory", "9" * 400, "far too long"),
        ("cpus", "nan", "outside of"),
        ("cpus", "inf", "outside of"),
        ("cpus", "many", "not a number"),
        ("processes", "1.5", "not a number"),
        ("processes", "1", "outside of"),
        ("timeout", "soon", "not a time"),
        ("timeout", "-5", "not a time"),
        ("open_files", "9" * 5000, "far too long"),
        ("network", "all", "no backend"),
        ("network", "example.org", "no backend"),
        ("network", "", "no backend"),
        ("outputs", "saef", "did you mean safe?"),
        ("backend", "bublewrap", "did you mean bubblewrap?"),
        ("language", "cobol", "not one of"),
        ("python", "python3", "not an absolute path"),
        ("python", "/no/such/python", "no such file"),
        ("python", "/etc/passwd", "not executable"),
        ("image", "--privileged", "not the name of an image"),
        ("image", "a b", "not the name of an image"),
        ("runtime", "/usr/bin/shim", "not the name of a runtime"),
        ("runtime", "--x", "not the name of a runtime"),
        ("mount", "/data", "not a mount"),
        ("mount", "/data:/data:rx", "neither ro nor rw"),
        ("mount", "data:/data", "not an absolute path"),
        ("mount", "/srv/a:/data\n/srv/b:/data", "in one place"),
        ("mount", "/srv/a:/etc/x", "lies in /etc"),
        ("mount", "tmpfs:/x:big", "not a size"),
        ("env", "A", "not NAME=VALUE"),
        ("env", "1A=2", "not NAME=VALUE"),
        ("env", "A=\0", "not NAME=VALUE"),
    ],
)
def test_a_bad_value_is_refused_by_name_source_and_remedy(environ, name, text, reason):
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ=environ | {"SANDBOX_KERNEL_SETTINGS": ""}, options={name: text})
    message = str(caught.value)
    assert f"setting {name} " in message
    assert reason in message
    assert f"--{name.replace('_', '-')}" in message
    assert "Write for example" in message
    assert len(message) < 600


def test_a_bad_variable_is_refused_by_its_own_name(environ):
    with pytest.raises(SettingsError, match=r"environment SANDBOX_KERNEL_MEMORY is '2x'"):
        Settings.load(environ=environ | {"SANDBOX_KERNEL_MEMORY": "2x"})


def test_a_misspelt_variable_is_refused_with_a_suggestion(environ):
    with pytest.raises(SettingsError, match=r"SANDBOX_KERNEL_NETWROK.*did you mean network\?"):
        Settings.load(environ=environ | {"SANDBOX_KERNEL_NETWROK": "none"})


def test_a_misspelt_argument_is_refused_with_a_suggestion(environ):
    with pytest.raises(SettingsError, match=r"--memry.*did you mean memory\?"):
        Settings.load({"memry": "2g"}, environ=environ)


def test_a_misspelt_line_of_the_file_is_refused_with_the_files_name(environ, write_file):
    path = write_file('outputz = "safe"\n')
    with pytest.raises(SettingsError, match=r"did you mean output") as caught:
        Settings.load(environ=environ)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["memory 2g", b"\xff\xfe", "memory = true\n", "memory = [1]\n", "[memory]\na = 1\n"]
)
def test_a_file_that_is_not_settings_is_refused_with_its_name(environ, write_file, text):
    path = write_file(text)
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ=environ)
    assert str(path) in str(caught.value)


def test_a_named_file_that_is_missing_is_refused(tmp_path):
    missing = tmp_path / "none.toml"
    with pytest.raises(SettingsError, match="cannot be read: No such file") as caught:
        Settings.load(environ={"SANDBOX_KERNEL_SETTINGS": str(missing)})
    assert str(missing) in str(caught.value)


def test_a_directory_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings.load(environ={"SANDBOX_KERNEL_SETTINGS": str(tmp_path)})


# --- what is said twice ---------------------------------------------------------------


def test_the_choices_are_what_the_registries_hold():
    assert ("auto", *backends.names()) == settings.BACKENDS
    for name in languages.names():
        assert Settings.load({"language": name}, environ={}).language == name


@pytest.mark.parametrize(("alias", "name"), [("js", "javascript"), ("R", "r"), ("sh", "bash")])
def test_a_language_may_be_called_as_cells_call_it(alias, name):
    assert Settings.load({"language": alias}, environ={}).language == name


def test_every_limit_can_be_set():
    assert {row.field for row in TABLE if row.is_limit} == set(Limits._fields)


def test_every_example_is_accepted(environ):
    """But for the interpreter and the image, which a machine may not have, and secrets."""
    for row in TABLE:
        if row.name not in ("python", "image") and not row.is_secret:
            Settings.load({row.name: row.example}, environ=environ)


def test_loading_leaves_the_environment_alone(environ):
    before = dict(os.environ)
    Settings.load(environ=environ)
    assert dict(os.environ) == before


# --- secrets --------------------------------------------------------------------------

KEY = "sk-canary-123"


def test_a_key_comes_from_the_environment_and_is_not_shown(environ):
    loaded = Settings.load(environ=environ | {"SANDBOX_KERNEL_MODEL_KEY": KEY})
    assert loaded.model_key.reveal() == KEY
    assert loaded.texts["model_key"] == "(set)"
    assert loaded.sources["model_key"] == "environment SANDBOX_KERNEL_MODEL_KEY"
    assert KEY not in repr(loaded)


def test_a_key_comes_from_the_settings_file(environ, write_file):
    write_file(f'model_key = "{KEY}"\n')
    loaded = Settings.load(environ=environ)
    assert loaded.model_key.reveal() == KEY
    assert KEY not in repr(loaded)


@pytest.mark.parametrize("name", ["model_key", "model-key", "--model-key"])
def test_a_key_in_a_command_line_is_refused_and_not_repeated(environ, name):
    with pytest.raises(SettingsError, match="SANDBOX_KERNEL_MODEL_KEY") as told:
        Settings.load({name: KEY}, environ=environ)
    assert "every user of this machine" in str(told.value)
    assert KEY not in str(told.value)


@pytest.mark.parametrize("text", [f"{KEY} {KEY}", f"{KEY}\nX", f"{KEY}é", KEY * 1000])
def test_a_key_that_no_header_holds_is_refused_and_not_repeated(environ, text):
    with pytest.raises(SettingsError, match="model_key") as told:
        Settings.load(environ=environ | {"SANDBOX_KERNEL_MODEL_KEY": text})
    assert KEY not in str(told.value)


def test_a_secret_is_not_pickled(environ):
    loaded = Settings.load(environ=environ | {"SANDBOX_KERNEL_MODEL_KEY": KEY})
    with pytest.raises(TypeError):
        pickle.dumps(loaded)


@pytest.mark.parametrize(
    "text", ["ftp://h/v1", "localhost:11434", "http://", "http://[::1/v1", f"http://u:{KEY}@h/v1"]
)
def test_an_address_that_is_none_is_refused(environ, text):
    with pytest.raises(SettingsError, match="model_url") as told:
        Settings.load({"model_url": text}, environ=environ)
    assert KEY not in str(told.value)


@pytest.mark.parametrize("text", ["http://127.0.0.1:11434/v1", "https://[::1]:8000/v1/"])
def test_an_address_of_an_endpoint_is_accepted(environ, text):
    assert Settings.load({"model_url": text}, environ=environ).model_url == text.rstrip("/")
