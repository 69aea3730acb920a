"""Seeds are made in a sandbox of their own, and later homes start with them."""

import os

import pytest

from sandbox_kernel import backends, events, seeds
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.session import SandboxSession


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_before_anything_is_built_it_is_due_and_nothing_is_found():
    assert seeds.is_due()
    assert seeds.find() == {}


def test_what_an_index_names_besides_our_files_is_not_found(cache):
    directory = seeds._directory(None)
    os.makedirs(directory)
    with open(f"{directory}/index", "w") as file:
        file.write("matplotlib/fontlist-v3.1.json\n../../../etc/passwd\njedi/../x.pkl\n")
    assert list(seeds.find()) == [".cache/matplotlib/fontlist-v3.1.json"]


@pytest.mark.timeout(300)  # the product gives it two minutes
async def test_a_session_starts_with_the_font_list_that_was_built():
    pytest.importorskip("matplotlib")
    backend = backends.get()
    made = await seeds.build(backend, SandboxSpec())
    assert any(name.startswith("matplotlib/") for name in made)
    assert not seeds.is_due()
    session = SandboxSession(backend, SandboxSpec(home_files=seeds.find()))
    texts = []

    def hear(event):
        if isinstance(event, events.TextWritten):
            texts.append(event.text)

    try:
        await session.execute("import os; print(os.listdir('/home/sandbox/.cache'))", on_event=hear)
    finally:
        await session.close()
    assert "matplotlib" in "".join(texts)
