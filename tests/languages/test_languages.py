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
from sandbox_kernel.kernel import answers

GUEST = Path(framing.__file__).parent


@pytest.fixture(params=languages.names())
def language(request: pytest.FixtureRequest) -> languages.Language:
    return languages.get(request.param)


def test_a_language_says_what_a_front_end_and_a_guest_need(language):
    assert language.file_extension.startswith(".")
    assert language.display_name
    assert "{file}" in " ".join(language.command)
    assert language.image.startswith("sandbox-kernel/")


def test_its_runner_is_a_file_of_the_guests(language):
    python, main = [item for item in language.runner_argv if not item.startswith("-")][:2]
    assert python == "{python}"
    assert (GUEST / main.replace("{guest}/", "")).is_file()


def test_its_lexer_exists(language):
    from pygments.lexers import get_lexer_by_name

    if language.name != "python":  # IPython brings its own
        assert get_lexer_by_name(language.pygments_lexer)


def test_front_ends_are_told_what_it_is(language):
    told = answers.kernel_info(language, "1.2.3", "")
    info = told["language_info"]
    assert info["name"] == language.jupyter_name
    assert info["file_extension"] == language.file_extension
    assert info["version"] == "1.2.3"
    # Of others nbconvert has no exporter; "script" takes the extension from above.
    is_python = language.name in ("python", "ipykernel")
    assert info["nbconvert_exporter"] == ("python" if is_python else "script")
    assert told["help_links"]
    for link in told["help_links"]:
        assert set(link) == {"text", "url"}
        assert link["url"].startswith("https://")


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


RUBY_ON_ALPINE = languages.Language(
    name="ruby-alpine",
    display_name="Ruby",
    file_extension=".rb",
    mimetype="text/x-ruby",
    codemirror_mode="ruby",
    pygments_lexer="ruby",
    image="ruby:3.2-alpine",
    command=("ruby", "{file}"),
)


@pytest.fixture
def empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "_registered", {})


@pytest.mark.usefixtures("empty_registry")
def test_a_language_in_ten_lines_runs_one_command_a_cell():
    languages.register(RUBY_ON_ALPINE)
    assert languages.get("ruby-alpine") is RUBY_ON_ALPINE
    assert "ruby-alpine" in languages.names()
    assert not RUBY_ON_ALPINE.has_state
    assert RUBY_ON_ALPINE.runner_argv[1] == "{guest}/runners/command/__main__.py"
    assert RUBY_ON_ALPINE.run_command() == ("ruby", "code.rb")
    assert RUBY_ON_ALPINE.run_command("app/main.rb") == ("ruby", "app/main.rb")


@pytest.mark.usefixtures("empty_registry")
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "Ruby 3"}, "cannot be called 'Ruby 3'"),
        ({"name": "../etc"}, "cannot be called"),
        ({"command": ()}, "give it one that runs a file"),
        ({"command": ("ruby",)}, "give it one that runs a file"),
    ],
)
def test_a_language_that_could_not_run_is_refused_with_the_reason(change, problem):
    with pytest.raises(SettingsError, match=problem):
        languages.register(RUBY_ON_ALPINE._replace(**change))


def test_the_aliases_that_are_known_without_an_import_are_the_languages_own(language):
    assert languages._ALIASES[language.name] == language.aliases
    for word in (language.name, *language.aliases):
        assert languages.resolve(word) == language.name


def test_a_word_that_names_no_language_resolves_to_none():
    assert languages.resolve("html") is None


def test_another_package_announces_a_language_by_an_entry_point(tmp_path):
    package = tmp_path / "cobol_kernel-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: cobol-kernel\nVersion: 1.0\n")
    points = "[sandbox_kernel.languages]\ncobol = cobol_kernel:COBOL\nliar = cobol_kernel:COBOL\n"
    (package / "entry_points.txt").write_text(points)
    (tmp_path / "cobol_kernel.py").write_text(
        "from sandbox_kernel.languages import Language\n"
        'COBOL = Language("cobol", "COBOL", ".cob", "text/x-cobol", "cobol", "cobol", "gnucobol",'
        ' ("cobc", "-xj", "{file}"), aliases=("cob",))\n'
    )
    code = (
        "from sandbox_kernel import languages as l, errors\n"
        "from sandbox_kernel.settings import Settings\n"
        "print(l.resolve('cobol'), l.get('cobol').display_name, l.resolve('cob'))\n"
        "print(Settings.load({'language': 'cobol'}, environ={}).language)\n"
        "try: l.get('liar')\n"
        "except errors.SettingsError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    first, second, third = done.stdout.splitlines()
    assert first == "cobol COBOL cobol"
    assert second == "cobol"
    assert "announced as the language 'liar'" in third
