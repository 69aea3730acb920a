"""Limits refuse what makes no sense, and say which value."""

import pytest

from sandbox_kernel.errors import SettingsError
from sandbox_kernel.limits import GIB, KIB, MIB, Limits, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2g", 2 * GIB), ("512m", 512 * MIB), ("512MiB", 512 * MIB), ("1.5k", 1536), ("70", 70)],
)
def test_sizes_are_read_as_people_write_them(text, expected):
    assert parse_size(text, "memory") == expected


@pytest.mark.parametrize("text", ["", "big", "-1g", "2gg", "1e9", "0x10", "2 g b"])
def test_a_text_that_is_no_size_is_named_in_the_error(text):
    with pytest.raises(SettingsError, match="memory is"):
        parse_size(text, "memory")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory_bytes", 1000),
        ("memory_bytes", 2**60),
        ("cpus", 0),
        ("cpus", float("nan")),
        ("processes", 1),
        ("workspace_bytes", 0),
        ("timeout_s", -5),
        ("timeout_s", "10"),
        ("artifact_bytes", 100 * MIB),
        ("open_files", True),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=name):
        Limits(**{name: value})


def test_texts_become_limits():
    limits = Limits.parse({"memory_bytes": "1g", "cpus": "0.5", "timeout_s": "2m"})
    assert (limits.memory_bytes, limits.cpus, limits.timeout_s) == (GIB, 0.5, 120.0)
    assert Limits.parse({"timeout_s": "none"}).timeout_s is None


def test_a_size_that_makes_no_sense_is_told_as_a_reader_knows_it():
    with pytest.raises(SettingsError, match="is 5 bytes, which is outside of 64 MiB to 262144 GiB"):
        Limits(memory_bytes=5)


def test_an_unknown_limit_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match=r"no limit 'memroy'.*memory_bytes"):
        Limits.parse({"memroy": "1g"})


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (2 * GIB, "2 GiB"),
        (300 * KIB, "300 KiB"),
    ],
)
def test_sizes_are_shown_in_the_unit_that_fits(count, expected):
    assert format_size(count) == expected
