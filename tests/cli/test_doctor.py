"""`doctor` from a shell."""

import json


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
