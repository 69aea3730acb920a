"""A guest's words in our exceptions, and a project's directory that a guest can change."""

import asyncio
import os

import pytest

from sandbox_kernel.engine import apps
from sandbox_kernel.errors import FileRefused, RequestRefused, SandboxDied
from sandbox_kernel.frames import EventDecoder
from sandbox_kernel.guest.framing import Kind, pack
from sandbox_kernel.session.guest import Guest

HOSTILE = "no\x1b]52;c;aGk=\x07\x1b[2J\rsandbox-kernel: all is well\x9b31m\u202e"
MARKS = set("\x1b\x07\x9b\r\u202e")


class Sandbox:
    """Takes what it is sent, and says nothing."""

    async def receive(self):
        await asyncio.Event().wait()
        yield b""

    async def send(self, frame):
        pass

    async def close(self):
        pass


async def test_a_refusal_in_a_guests_own_words_writes_nothing_to_a_terminal():
    """Whoever shows an exception shows its words; a command-line program prints them."""
    guest = Guest(Sandbox(), lambda _: None)
    asking = asyncio.ensure_future(guest.ask(Kind.FILE_LIST, 1))
    await asyncio.sleep(0)
    guest._take(EventDecoder().feed(pack(Kind.REFUSAL, 1, {"reason": HOSTILE})))
    with pytest.raises(RequestRefused, match="all is well") as told:
        await asking
    assert not MARKS & set(str(told.value))


async def test_why_a_runner_cannot_start_is_told_without_escapes():
    guest = Guest(Sandbox(), lambda _: None)
    guest.begin()
    said = {"generation": 1, "cause": "missing", "detail": HOSTILE}
    guest._take(EventDecoder().feed(pack(Kind.RUNNER_EXITED, 0, said)))
    with pytest.raises(SandboxDied, match="all is well") as told:
        await guest.ready()
    assert not MARKS & set(str(told.value))
    await guest.close()


def test_a_directory_swapped_for_a_link_while_it_is_read_leads_nowhere(tmp_path, monkeypatch):
    """A guest can: a project's directory may be mounted in its sandbox, to be written to."""
    project, secret = tmp_path / "project", tmp_path / "secret"
    for directory in (project / "sub" / "deep", secret / "deep"):
        directory.mkdir(parents=True)
        (directory / "key").write_text(directory.parts[-2])
    (project / "main.py").write_text("")
    (project / "link").symlink_to("sub/deep/key")
    assert apps.from_directory(project)["sub/deep/key"] == b"sub"
    assert apps.from_directory(project)["link"] == b"sub"
    walk = apps._walk

    def swapping(*arguments):
        found = list(walk(*arguments))
        os.rename(project / "sub", tmp_path / "away")
        (project / "sub").symlink_to(secret)
        return found

    monkeypatch.setattr(apps, "_walk", swapping)
    with pytest.raises(FileRefused):
        apps.from_directory(project)
