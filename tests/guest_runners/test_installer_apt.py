"""What apt's installer reads of maintainers' scripts: names of programs, nothing else."""

from __future__ import annotations

import os

from sandbox_kernel.guest.runners.installer.apt import _link_alternatives

SCRIPT = """\
#!/bin/sh
update-alternatives --install /usr/bin/figlet figlet /usr/bin/figlet-figlet 20 \\
    --slave /usr/bin/figfont figfont /usr/bin/figfont-figlet
update-alternatives --quiet --install /usr/bin/editor editor /usr/bin/not-there 1
update-alternatives --install /usr/bin/taken taken /usr/bin/figlet-figlet 1
"""


def test_programs_get_the_names_that_alternatives_would_give(tmp_path):
    programs = tmp_path / "layer/usr/bin"
    programs.mkdir(parents=True)
    for name in ("figlet-figlet", "figfont-figlet", "taken"):
        (programs / name).write_text(name)
    (tmp_path / "postinst").write_text(SCRIPT)
    _link_alternatives(str(tmp_path / "layer"), str(tmp_path / "postinst"))
    assert os.readlink(programs / "figlet") == "/usr/bin/figlet-figlet"
    assert os.readlink(programs / "figfont") == "/usr/bin/figfont-figlet"
    assert not os.path.lexists(programs / "editor")
    assert (programs / "taken").read_text() == "taken"


def test_a_package_without_a_script_is_fine(tmp_path):
    _link_alternatives(str(tmp_path), str(tmp_path / "postinst"))
    assert list(tmp_path.iterdir()) == []
