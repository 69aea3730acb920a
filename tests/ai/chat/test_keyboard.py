"""The file that keeps what was typed."""

from __future__ import annotations

import os

import pytest

from sandbox_kernel.ai.chat.keyboard import MAX_HISTORY_BYTES, history_path, make_private


def test_it_is_in_the_users_state_directory(tmp_path):
    state = {"XDG_STATE_HOME": str(tmp_path)}
    assert history_path(state) == tmp_path / "sandbox-kernel" / "chat-history"
    home = {"HOME": str(tmp_path)}
    assert history_path(home) == tmp_path / ".local/state/sandbox-kernel/chat-history"


@pytest.mark.parametrize("mode", [None, 0o644])
def test_nobody_else_may_read_it(tmp_path, mode):
    path = tmp_path / "made" / "chat-history"
    if mode is not None:
        path.parent.mkdir()
        path.write_text("before")
        path.chmod(mode)
    make_private(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == ("" if mode is None else "before")


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "elsewhere").chmod(0o644)
    os.symlink(tmp_path / "elsewhere", tmp_path / "chat-history")
    with pytest.raises(OSError):
        make_private(tmp_path / "chat-history")
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o644


def test_it_is_not_endless_and_keeps_the_newest(tmp_path):
    path = tmp_path / "chat-history"
    entry = "\n# 2030-01-01 00:00:00\n+{}\n"
    path.write_text("".join(entry.format(number) for number in range(60_000)))
    make_private(path)
    text = path.read_text()
    assert len(text) <= MAX_HISTORY_BYTES // 2
    assert text.startswith("\n# 2030")
    assert text.endswith("+59999\n")
