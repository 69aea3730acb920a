"""Equal sets have one key, and nothing else has it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox_kernel.dependencies.keys import key
from sandbox_kernel.dependencies.requirements import parse_all

NAMES = st.lists(st.sampled_from(["a", "b", "c-d", "e>=1", "f[x]"]), min_size=1, unique=True)
FOR = {"python": "/usr/bin/python3", "version": "3.11.2"}


def key_of(texts, ecosystem="pip", built_for=FOR, index="pypi"):
    return key(ecosystem, parse_all(texts, ecosystem), built_for, index)


@given(NAMES)
def test_neither_order_nor_spelling_changes_a_key(names):
    assert key_of(names) == key_of([name.upper() for name in reversed(names)])


@given(NAMES, NAMES)
def test_other_packages_have_another_key(some, others):
    assert (key_of(some) == key_of(others)) == (set(some) == set(others))


def test_whatever_an_installation_depends_on_changes_its_key():
    keys = {
        key_of(["a"]),
        key_of(["a"], ecosystem="npm"),
        key_of(["a"], built_for={**FOR, "version": "3.12.1"}),
        key_of(["a"], built_for={}),
        key_of(["a"], index="https://index.example"),
        key_of(["a==1"]),
        key_of(["a[b]"]),
    }
    assert len(keys) == 7
    assert all(len(item) == 64 for item in keys)
