"""What an image prepared for every home."""

import os

from sandbox_kernel.guest.home import furnish


def test_prepared_files_are_shown_with_their_directories(tmp_path):
    prepared, home = tmp_path / "prepared", tmp_path / "home"
    (prepared / ".cache" / "matplotlib").mkdir(parents=True)
    (prepared / ".cache" / "matplotlib" / "fontlist.json").write_bytes(b"{}")
    home.mkdir()
    furnish(str(home), str(prepared))
    assert (home / ".cache" / "matplotlib" / "fontlist.json").read_bytes() == b"{}"


def test_what_is_there_already_stays(tmp_path):
    prepared, home = tmp_path / "prepared", tmp_path / "home"
    prepared.mkdir()
    home.mkdir()
    (prepared / "notes").write_text("prepared")
    (home / "notes").write_text("own")
    furnish(str(home), str(prepared))
    assert (home / "notes").read_text() == "own"


def test_a_home_that_takes_no_file_and_an_image_without_any_are_no_error(tmp_path):
    furnish(str(tmp_path / "home"), str(tmp_path / "missing"))
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "file").write_text("x")
    furnish("/proc/version", str(tmp_path / "prepared"))
    assert os.listdir(tmp_path) == ["prepared"]
