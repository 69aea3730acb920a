"""The registry: what every row must have, whoever adds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox_kernel import languages
from sandbox_kernel.backends.docker import images
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.guest import framing

GUEST = Path(framing.__file__).parent


@pytest.fixture(params=languages.names())
def language(request: pytest.FixtureRequest) -> languages.Language:
    return languages.get(request.param)


def test_a_language_says_what_a_front_end_and_a_guest_need(language):
    assert language.file_extension.startswith(".")
    assert language.display_name
    assert "{file}" in language.command
    assert language.image.startswith("sandbox-kernel/")


def test_its_runner_is_a_file_of_the_guests(language):
    python, main = language.runner[:2]
    assert python == "{python}"
    assert (GUEST / main.replace("{guest}/", "")).is_file()


def test_its_lexer_exists(language):
    from pygments.lexers import get_lexer_by_name

    if language.name != "python":  # IPython brings its own
        assert get_lexer_by_name(language.pygments_lexer)


def test_its_image_has_a_dockerfile(language):
    family = language.image.removeprefix("sandbox-kernel/")
    assert (Path(images.__path__[0]) / f"{family}.Dockerfile").is_file()


def test_a_name_that_nobody_registered_is_refused_with_those_that_are():
    with pytest.raises(SettingsError, match=r"no language 'cobol'.*python, bash"):
        languages.get("cobol")


def test_a_kernel_of_python_imports_no_other_language():
    code = "import sys, sandbox_kernel.languages as l; l.get('python'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "sandbox_kernel.languages.ruby" not in done.stdout.split()
