"""`Engine.attach`: a program's session that is a live notebook's."""

from __future__ import annotations

import pytest

from sandbox_kernel.errors import DependencyRefused, NoSuchSession
from sandbox_kernel.sync import Engine
from tests.sharing.conftest import shared


def test_an_attached_session_has_the_verbs_of_any_other(notebook):
    notebook.run("numbers = [3, 1, 2]")
    with Engine() as engine, engine.attach(shared(notebook).id) as session:
        result = session.execute("open('made.txt', 'w').write('!'); sorted(numbers)")
        assert result.text == "[1, 2, 3]"
        assert [file.name for file in result.files] == ["made.txt"]
        assert session.run("cat made.txt; exit 3").exit_code == 3
        assert session.files.read("made.txt") == b"!"
        info = session.info()
        assert (info.backend, info.language, info.runs) == ("bubblewrap", "python", 2)
    # Detached only: the notebook goes on.
    assert notebook.run("numbers").result["text/plain"] == "[3, 1, 2]"


def test_nobody_is_attached_to_what_is_not_there(notebook):
    with Engine(max_sessions=1) as engine:
        with pytest.raises(NoSuchSession, match="No live session"):
            engine.attach("0" * 32)
        engine.attach(shared(notebook).id)  # the refused one took no place


def test_packages_are_the_kernels_to_install(start_kernel):
    kernel = start_kernel(env={"SANDBOX_KERNEL_DEPENDENCIES": "none"})
    with Engine() as engine:
        session = engine.attach(shared(kernel).id)
        with pytest.raises(DependencyRefused, match="dependencies to none"):
            session.execute("1", dependencies=["humanize"])
        assert session.execute("1").dependencies.packages == ()
