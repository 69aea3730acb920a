"""`doctor` from a shell."""

import json
import os
import shutil

from sandbox_kernel.backends.bubblewrap.environment import current
from sandbox_kernel.backends.bubblewrap.plan import search_path


def test_doctor_names_the_boundary_and_every_setting(command):
    done = command("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Cells run behind:" in done.stdout
    assert "interrupt_grace" in done.stdout


def test_doctor_speaks_json(command):
    report = json.loads(command("doctor", "--json").stdout)
    assert report["is_usable"] is True
    assert report["settings"]["network"] == {"value": "none", "source": "default"}


def test_doctor_fails_with_the_reason_when_settings_are_wrong(command):
    done = command("doctor", SANDBOX_KERNEL_CPUS="many")
    assert done.returncode == 1
    assert "SANDBOX_KERNEL_CPUS is 'many'" in done.stdout


def test_doctor_lists_the_languages_with_their_program_or_remedy(command, tmp_path):
    (tmp_path / "bash").symlink_to("/bin/bash")
    done = command("doctor", "--env", f"PATH={tmp_path}")
    lines = done.stdout.splitlines()
    bash = next(line.split() for line in lines if line.strip().startswith("bash "))
    assert bash == ["bash", "ok", str(tmp_path / "bash")]
    ruby = next(line.split(maxsplit=2) for line in lines if line.strip().startswith("ruby "))
    assert ruby[1] == "no"
    assert ruby[2].startswith(f"There is no ruby in {tmp_path}. Install")


def test_doctor_lists_the_languages_in_json(command):
    found = {
        item["language"]: item
        for item in json.loads(command("doctor", "--json").stdout)["languages"]
    }
    assert {"python", "javascript", "bash", "r"} <= set(found)
    assert found["bash"] == {
        "language": "bash",
        "display_name": "Bash",
        "state": "ready",
        "found": shutil.which("bash", path=os.pathsep.join(search_path(current()))),
        "reason": "",
        "remedy": "",
    }


def test_doctor_shows_that_a_key_is_set_and_never_the_key(command):
    given = {"SANDBOX_KERNEL_MODEL": "m", "SANDBOX_KERNEL_MODEL_KEY": "sk-canary"}
    for arguments in (["doctor"], ["doctor", "--json"]):
        done = command(*arguments, **given)
        assert "(set)" in done.stdout
        assert "sk-canary" not in done.stdout + done.stderr


def test_a_key_as_an_argument_is_refused_with_the_remedy(command):
    done = command("doctor", "--model-key", "sk-canary")
    assert done.returncode != 0
    assert "SANDBOX_KERNEL_MODEL_KEY" in done.stdout + done.stderr
    assert "sk-canary" not in done.stdout + done.stderr
