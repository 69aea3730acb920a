"""Files between runs in fresh sandboxes. The sandboxes' side is a dictionary here."""

import pytest

from sandbox_kernel.engine import carried as module
from sandbox_kernel.engine.carried import Carried
from sandbox_kernel.errors import FileTooLarge, RequestRefused
from sandbox_kernel.limits import MIB, Limits
from sandbox_kernel.session import FileEntry

LIMITS = Limits(workspace_bytes=1 * MIB, workspace_inodes=64)


class Workspace(dict):
    """A sandbox's files. What is in `lies` has another size in its listing."""

    def __init__(self, **files):
        super().__init__(files)
        self.lies = {}
        self.reads = []

    def entries(self, *names):
        return [
            FileEntry(name, self.lies.get(name, len(self[name])), 1.0) for name in names or self
        ]

    async def write(self, name, content):
        if any(other.startswith(f"{name}/") or name.startswith(f"{other}/") for other in self):
            raise RequestRefused("Is a directory.")
        self[name] = content

    async def read(self, name, *, limit_bytes=None):
        self.reads.append(name)
        if name not in self:
            raise RequestRefused("There is none.")
        if limit_bytes is not None and len(self[name]) > limit_bytes:
            raise FileTooLarge("It is too large.")
        return self[name]

    async def write_pieces(self, name, size, part):
        await self.write(name, part(0, size))

    async def pieces(self, name, *, limit_bytes=None):
        yield await self.read(name, limit_bytes=limit_bytes)


def carried(is_shared=False, limits=LIMITS):
    return Carried(limits, is_shared=is_shared)


async def names(of):
    return [entry.name for entry in await of.list()]


async def given(of):
    workspace = Workspace()
    await of.give(workspace)
    return dict(workspace)


async def test_what_the_caller_writes_is_in_every_run():
    files = carried()
    await files.write("a/b.csv", b"1")
    assert await given(files) == await given(files) == {"a/b.csv": b"1"}
    await files.write("a/b.csv", b"22")
    assert await given(files) == {"a/b.csv": b"22"}
    await files.remove("a/b.csv")
    assert await given(files) == {}


@pytest.mark.parametrize("is_shared", [False, True])
async def test_what_a_run_makes_is_read_afterwards_and_goes_on_only_where_it_is_shared(is_shared):
    files = carried(is_shared)
    inside = Workspace(made=b"x")
    assert await files.take(inside, inside.entries()) == {}
    assert await files.read("made") == b"x"
    assert await names(files) == ["made"]
    assert await given(files) == ({"made": b"x"} if is_shared else {})


@pytest.mark.parametrize("is_shared", [False, True])
async def test_a_run_changes_a_callers_file_for_the_next_one_only_where_it_is_shared(is_shared):
    files = carried(is_shared)
    await files.write("data", b"mine")
    inside = Workspace(data=b"theirs")
    await files.take(inside, inside.entries())
    assert await files.read("data") == b"theirs"
    assert await given(files) == {"data": b"theirs" if is_shared else b"mine"}
    await files.write("data", b"again")
    assert await files.read("data") == b"again"
    assert await names(files) == ["data"]


@pytest.mark.parametrize("is_shared", [False, True])
async def test_what_a_run_removes_is_gone_only_where_it_is_shared(is_shared):
    files = carried(is_shared)
    await files.write("removed", b"1")
    await files.write("not listed", b"2")
    await files.write("empty", b"")
    inside = Workspace(**{"not listed": b"2", "empty": b""})
    await files.forget(inside, ["removed", "not listed", "empty", "another"])
    expected = ["empty", "not listed"] if is_shared else ["empty", "not listed", "removed"]
    assert await names(files) == expected


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "../a", "a/../b", "./a", "a//b", "a\0b", "\ud800", "x" * 256, "é" * 128,
     "/".join("a" * 17)],
)  # fmt: skip
async def test_a_name_that_no_sandbox_takes_is_refused_at_once(name):
    with pytest.raises(RequestRefused):
        await carried().write(name, b"")


@pytest.mark.parametrize("name", ["a\nb", "-rf", "<img onerror=x>", "\u202eb", ".env", "é" * 127])
async def test_a_strange_name_is_a_name(name):
    files = carried()
    await files.write(name, b"1")
    assert await given(files) == {name: b"1"}


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")])
async def test_a_file_is_no_directory(first, second):
    files = carried()
    await files.write(first, b"1")
    with pytest.raises(RequestRefused, match="directory"):
        await files.write(second, b"2")
    assert await given(files) == {first: b"1"}


async def test_what_a_run_made_and_no_run_can_have_ends_nothing():
    files = carried(is_shared=True)
    inside = Workspace()
    dict.update(inside, {"a": b"1", "a/b": b"2"})  # a liar's listing
    await files.take(inside, inside.entries())
    assert await given(files) == {"a": b"1"}
    assert await names(files) == ["a"]


async def test_no_more_is_kept_than_a_workspace_holds():
    files = carried()
    await files.write("a", b"x" * (MIB - 10))
    with pytest.raises(RequestRefused, match=r"1 MiB \(workspace\)"):
        await files.write("b", b"x" * 11)
    await files.write("a", b"x" * 10)  # in its own place
    for number in range(63):
        await files.write(f"n{number}", b"")
    with pytest.raises(RequestRefused, match="64 files"):
        await files.write("one more", b"")


async def test_what_does_not_fit_is_told_and_not_even_read():
    files = carried()
    inside = Workspace(small=b"1", big=b"x" * 2 * MIB, liar=b"x" * 100, gone=b"")
    inside.lies["liar"] = 10
    entries = inside.entries()
    del inside["gone"]
    problems = await files.take(inside, entries)
    assert sorted(problems) == ["big", "gone", "liar"]
    assert "1 MiB" in problems["big"]
    assert "big" not in inside.reads
    assert await names(files) == ["small"]


async def test_a_missing_file_and_one_over_a_limit_are_refused():
    files = carried()
    await files.write("a", b"123")
    with pytest.raises(RequestRefused, match="no file 'b'"):
        await files.read("b")
    with pytest.raises(RequestRefused, match="no file 'b'"):
        await files.remove("b")
    with pytest.raises(FileTooLarge, match="2 bytes"):
        await files.read("a", limit_bytes=2)


async def test_what_was_replaced_does_not_pile_up(monkeypatch):
    monkeypatch.setattr(module, "WASTE_BYTES", 1000)
    files = carried()
    await files.write("other", b"stays")
    for number in range(200):
        await files.write("a", bytes([number]) * 100)
        assert await files.read("a") == bytes([number]) * 100
    assert await files.read("other") == b"stays"
    assert files._end < 3000


async def test_a_closed_one_keeps_nothing_of_a_run_that_ends_later():
    files = carried()
    files.close()
    inside = Workspace(made=b"x")
    await files.take(inside, inside.entries())
    assert await names(files) == []
    assert files._file is None
    files.close()
