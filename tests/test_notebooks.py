"""The example notebooks, executed through the installed kernelspec as a user would.

Each is executed once, in a copy of `notebooks/`, and its outputs are looked at by cell id.
A new notebook is found and executed by itself; add what it must show to `SHOWN`. Those in
containers need an engine and their image: without, they are skipped, or fail where both are
required.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest
from nbclient import NotebookClient

from sandbox_kernel import kernelspecs, languages
from sandbox_kernel.availability import find_problem
from tests.support import docker_engine, notebook_script
from tests.support.model_server import serving

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
# What a notebook may take on two noisy cores; alone it takes a few seconds.
TIMEOUT_S = 120

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)

# What a notebook is written in, when it runs in a container, or isn't Python.
CONTAINERS = {"04-containers": "python", "05-languages-and-images": "bash"}
OTHERS = {
    "07-javascript": "javascript",
    "08-r": "r",
    "09-scripting": "ruby",
    "10-sql": "sql",
    "11-bash": "bash",
}
# Those that drive sandboxes from the host, in the usual Python kernel.
HOSTED = ("12-programs", "13-agents")
# Besides their own, notebooks with cells of other languages need these.
ALSO = {
    "06-polyglot": ("sql", "bash", "javascript"),
    "07-javascript": ("typescript",),
    "09-scripting": ("perl", "php", "lua"),
    "12-programs": ("bash",),
}

# notebook: cell: a MIME type or stream that it must show, and a pattern found in it.
SHOWN: dict[str, dict[str, list[tuple[str, str]]]] = {
    "01-quick-start": {
        "status": [("text/plain", "bubblewrap"), ("text/html", "2 GiB")],
        "state": [("text/plain", r"Python 3\.\d+")],
        "state-again": [("text/plain", "^385$")],
        "streaming": [("stdout", "step 5 of 5"), ("stderr", "standard error")],
        "table": [("text/html", "<table"), ("text/html", "Neptune")],
        "chart": [("image/png", "^iVBOR")],
        "error": [("error", "KeyError: 'Pluto'"), ("error", "period_of")],
        "after-error": [("stdout", "8 planets and 11 squares")],
        "network": [
            ("stdout", "a name on the internet: gaierror"),
            ("stdout", "an address on the internet: OSError"),
            ("stdout", "cloud's metadata: OSError"),
            ("stdout", r"interfaces: \['lo'\]"),
        ],
        "files": [
            ("stdout", "with nothing in it"),
            ("stdout", "this notebook: not here"),
            ("stdout", "home: /home/sandbox with nothing but caches"),
            ("stdout", "password hashes: (PermissionError|FileNotFoundError)"),
            ("stdout", "system program to write: (OSError|PermissionError)"),
            ("stdout", "own code to write: (OSError|PermissionError)"),
        ],
        "processes": [
            ("stdout", r"processes in sight: \d\n"),
            ("stdout", r"user id: [1-9]\d*\n"),
            ("stdout", "capabilities: 0+\n"),
            ("stdout", "may gain privileges: no"),
            ("stdout", "system calls filtered: yes"),
        ],
        "too-much": [("error", "may run 256 processes"), ("stdout", r"2[0-5]\d processes")],
        "after-too-much": [("stdout", "8 planets are still there")],
        "shell": [("stdout", r"^[1-9]\d*\s+/\S+\s+0\s*$")],
    },
    "02-chart-analysis": {
        "load": [("text/html", "<table"), ("text/html", "drizzle")],
        "check": [("text/html", "1461")],
        "temperature": [("image/png", "^iVBOR")],
        "rain": [("image/png", "^iVBOR")],
        "heat": [("image/png", "^iVBOR")],
        "kinds": [("image/svg+xml|text/html", "svg")],
        "persistence": [("image/png", "^iVBOR")],
        "summary": [("text/html", "<table"), ("text/html", "wet_days_percent")],
        "findings": [("text/markdown", "11 August 2014 with 35.6 °C")],
    },
    "03-files-in-and-out": {
        "put": [("stdout", "297 earthquakes")],
        "sort": [
            ("stdout", "^6.4  22km NNE of Hualian"),
            ("text/plain", "earthquakes-sorted.json"),
        ],
        "csv": [("text/html", "<table"), ("text/html", "&lt;b&gt;not bold")],
        "once": [("image/png", "^iVBOR")],
        "big": [("text/plain", "waveform.bin"), ("text/plain", r"19\.5 MiB")],
        "list": [("text/plain", "waveform.bin"), ("text/html", "map.png")],
        "get": [("stdout", "earthquakes-sorted.json")],
        "get-refused": [("error", "earthquakes-sorted.json.*overwrite")],
        "put-refused": [("error", "etc/hostname")],
        "get-above-refused": [("error", "strongest.csv")],
    },
    "04-containers": {
        "status": [("text/plain", "docker: a container of sandbox-kernel/python")],
        "inside": [
            ("stdout", r"Python 3\.\d+\.\d+, host name sandbox\n"),
            ("stdout", r"numpy \d.*pandas \d.*matplotlib \d"),
            ("stdout", r"user id: 6[12]\d\d\d\n"),
            ("stdout", "capabilities: 0+\n"),
            ("stdout", "/workspace with nothing in it"),
            ("stdout", "new file in /opt: OSError: .*Read-only"),
            ("stdout", "Python itself to write: (OSError|PermissionError)"),
            ("stdout", "a name on the internet: gaierror"),
            ("stdout", "the engine's socket: FileNotFoundError"),
        ],
        "load": [("text/html", "<table"), ("text/html", "Taiwan")],
        "law": [("image/png", "^iVBOR")],
        "swarm": [("image/png", "^iVBOR"), ("text/plain", r"hualien\.png")],
        "too-much": [("error", r"MemoryLimitExceeded.*2 GiB \(memory\)")],
        "after-too-much": [("stdout", r"earthquakes\.json hualien\.png")],
        "status-again": [("text/plain", "generation 2")],
    },
    "05-languages-and-images": {
        "status": [("text/plain", "docker: a container of sandbox-kernel/shell")],
        "one": [("stdout", "GNU bash"), ("stdout", "step 3 of 3")],
        "persist": [("stdout", "set: blue"), ("text/plain", r"colour\.txt")],
        "persisted": [("stdout", "the variable: BLUE\nthe file: blue\n")],
        "pipeline": [("stdout", r" 641 rain\n +640 sun\n")],
        "months": [("text/html", "<table"), ("text/html", "rain_mm_a_year")],
        "chart": [("text/html", "<img src=.data:image/svg")],
        "error": [("stdout", "exit code: 1"), ("stderr", "standard error"), ("error", "code 3")],
        "after-error": [("stdout", "4 files are still there")],
    },
    "06-polyglot": {
        "shape": [
            ("text/html", "<table"),
            ("text/html", "rain_mm"),
            ("text/plain", r"monthly\.csv"),
        ],
        "wettest": [("text/plain", r"2015-03-15 .* 55\.9")],
        "chart": [("image/png", "^iVBOR")],
        "count": [("stdout", r"rain +641 days\n"), ("stdout", r"snow +26 days\n")],
        "count-again": [("stdout", "It rained on 641 of 1461 days.")],
        "render": [("text/html", "<table"), ("text/html", "background-color: #5b8fc7")],
        "render-again": [("text/plain", r"\[ 6, 7, 8 \]")],
        "error": [("error", r"TypeError: .*Cell\[9\]:2:15")],
        "still": [("stdout", "12 months are still there in Python")],
    },
    "07-javascript": {
        "put": [("text/plain", "^297$")],
        "value": [("text/plain", "magnitude: 6.4, place: '22km NNE of Hualian, Taiwan'")],
        "table": [("stdout", "(index).*6.4.*Hualian")],
        "await": [("stdout", "step 3 of 3"), ("stderr", "standard error")],
        "chart": [("text/html", "data:image/svg")],
        "saved": [("text/plain", r"histogram\.json")],
        "error": [("error", r"Cannot read properties of undefined.*Cell\[7\]:2:9")],
        "typescript": [("text/plain", r"573\.8 km: 13km SSW of Ndoi Island, Fiji")],
        "typescript-again": [("text/plain", "^67$")],
    },
    "08-r": {
        "read": [("text/plain", "1461 +7")],
        "frame": [("text/html", "<table"), ("text/html", "precipitation")],
        "plot": [("image/png", "^iVBOR")],
        "model": [("stdout", r"A day with rain is 1\.7 °C cooler\.")],
        "summary": [("text/html", "Sum Sq")],
        "warning": [("stderr", "NAs introduced by coercion")],
        "error": [("error", "There is no fifth year of data")],
        "still": [("text/plain", "12")],
    },
    "09-scripting": {
        "put": [("text/plain", "^297$")],
        "ruby": [("text/plain", r'^\[\["Alaska", 92\]')],
        "ruby-file": [("text/html", "Puerto Rico"), ("text/plain", r"regions\.csv")],
        "ruby-error": [("error", "NoMethodError: .*strength")],
        "perl": [("stdout", r"Alaska +92\n")],
        "perl-again": [("stdout", "together: 141\n")],
        "php": [("stdout", "Alaska: 31 %\nPuerto Rico: 10 %")],
        "lua": [("stdout", r"Taiwan +#####\n")],
        "lua-again": [("text/plain", "^141$")],
    },
    "10-sql": {
        "put": [("text/plain", "1461 .* 2012-01-01 .* 2015-12-31")],
        "json": [("text/html", "22km NNE of Hualian, Taiwan")],
        "several": [("text/plain", r"6\.0 .* 5"), ("text/plain", r"573\.8")],
        "error": [("error", "depth.* not found.*depth_km")],
        "file": [("text/plain", r"strong\.csv")],
    },
    "11-bash": {
        "put": [("stdout", "1461 days")],
        "pipeline": [("stdout", " 641 rain\n +640 sun\n")],
        "cwd-again": [("stdout", "^/workspace/years\n"), ("stdout", "1461 total")],
        "chart": [("text/html", "<img src=.data:image/svg")],
        "error": [("stdout", "snow in July"), ("error", "exit code 1")],
        "after-error": [("stdout", "the exit code was 1, and there are still 1461 days")],
    },
    "12-programs": {
        "create": [("text/plain", "bubblewrap")],
        "first": [("text/plain", r"sorting 3\\n', '\[1, 2, 3\]', True")],
        "fails": [("text/plain", r"False, 1, 'IndexError: list index out of range'")],
        "stream": [
            ("stdout", r"out \| step 0"),
            ("stdout", r"err \| a warning"),
            ("stdout", "Hello, the program that asked 'Who are you"),
        ],
        "timeout": [("stdout", "limit of 1 s .timeout."), ("stdout", r"\[3, 1, 2\] 124")],
        "chart": [("image/png", "^iVBOR"), ("stdout", r"chart\.png")],
        "shell": [("stdout", r"4 cities\.csv\n1\n Bergen Cairo Lisbon Nuuk")],
        "tools": [
            ("stdout", "'people': 294000"),
            ("stdout", "ToolError - .*There is no figure for Atlantis"),
        ],
        "pool": [("stdout", r"^False \[\] - and the first run's .*b'mine'")],
        "app": [("stdout", "Hello from the sandbox, /notebook")],
        "end": [("stdout", r"runs, 1 sandbox, generated: \('chart\.png',\)\nkept chart\.png True")],
        "sync": [("stdout", r"\[1, 4, 9\]")],
    },
    "13-agents": {
        "settings": [("stdout", "The model is scripted-1")],
        "fifty": [("stdout", "^0 1 1 2 3 5 8 13 21 34 .* 4181")],
        "interpret": [
            ("stdout", "rain = pd.read_csv"),
            ("image/png", "^iVBOR"),
            ("text/markdown", "July is the driest month"),
        ],
        "save": [("stdout", r"rain\.ipynb True")],
        "tool": [("stdout", r"\b7919\b.*\bThe 1000th prime")],
        "pydantic-ai": [("text/plain", "7,417 days")],
        "langchain": [("text/plain", "7,417 days")],
        "openai-agents": [("text/plain", "7,417 days")],
        "seen": [("stdout", "^7417 and 4 runs")],
        "mcp": [("stdout", "close_session.* run_code.*\\n"), ("stdout", r"\b42\b")],
    },
}


class Executed(NamedTuple):
    """A notebook with its outputs, where it ran, and how long that took."""

    cells: dict[str, Any]  # by id
    folder: Path
    elapsed_s: float

    def shown(self, cell_id: str) -> list[tuple[str, str]]:
        """(MIME type, stream name or "error"; text) of each output of a cell.

        A stream's messages are one text: where it is cut is nobody's business.
        """
        pairs: list[tuple[str, str]] = []
        for kind, text in (p for output in self.cells[cell_id].outputs for p in _pairs(output)):
            if pairs and kind in ("stdout", "stderr") and pairs[-1][0] == kind:
                text = pairs.pop()[1] + text
            pairs.append((kind, text))
        return pairs


def _pairs(output: Any) -> list[tuple[str, str]]:
    if output.output_type == "stream":
        return [(output.name, output.text)]
    if output.output_type == "error":
        trace = "\n".join(output.traceback)
        return [("error", f"{output.ename}: {output.evalue}\n{trace}")]
    return [(mime, str(data)) for mime, data in output.data.items()]


@pytest.fixture(scope="module")
def model() -> Iterator[None]:
    """A scripted model that the settings of every process from here on name."""
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        for name, text in server.environment.items():
            patch.setenv(name, text)
        server.script(*notebook_script.turns())
        yield
        assert server.problems == []


@pytest.fixture(scope="module")
def executed(
    model: None,
    kernel_name: str,
    other_kernels: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Executed]:
    """Executes a notebook at the first call and remembers what came out."""
    done: dict[str, Executed] = {}

    def execute(name: str) -> Executed:
        if name in CONTAINERS:
            _require_image(CONTAINERS[name])
        for language in (OTHERS.get(name, "python"), *ALSO.get(name, ())):
            if name not in CONTAINERS and (problem := find_problem(language)):
                pytest.skip(f"{language}: {problem}")
        if name not in done:
            folder = tmp_path_factory.mktemp(name) / "notebooks"
            shutil.copytree(FOLDER, folder)
            kernel = "python3" if name in HOSTED else other_kernels.get(name, kernel_name)
            done[name] = _execute(folder, name, kernel)
        return done[name]

    return execute


@pytest.fixture(scope="module")
def other_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Notebook -> kernelspec, as `install` writes them, where Jupyter looks."""
    prefix = tmp_path_factory.mktemp("prefix")
    asked = {name: {"backend": "docker", "language": it} for name, it in CONTAINERS.items()}
    asked |= {name: {"language": language} for name, language in OTHERS.items()}
    made = {
        name: kernelspecs.install(options, prefix=str(prefix)).name
        for name, options in asked.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        places = [str(prefix / "share" / "jupyter"), os.environ.get("JUPYTER_PATH", "")]
        patch.setenv("JUPYTER_PATH", os.pathsep.join(filter(None, places)))
        yield made


def _require_image(language: str) -> None:
    docker_engine.require()
    image = languages.get(language).image
    if not docker_engine.api().images(image):
        command = f"sandbox-kernel setup docker --language {language}"
        reason = f"docker: There is no image {image}. Make it with: {command}"
        (pytest.fail if docker_engine.is_required() else pytest.skip)(reason)


def _execute(folder: Path, name: str, kernel_name: str) -> Executed:
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    began = time.monotonic()
    NotebookClient(
        notebook,
        kernel_name=kernel_name,
        timeout=TIMEOUT_S,
        iopub_timeout=60,  # from a reply to the idle after it; the default loses outputs
        allow_errors=True,  # the test below tells wanted errors from others
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    elapsed_s = time.monotonic() - began
    return Executed({cell.id: cell for cell in notebook.cells}, folder, elapsed_s)


def _tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def _committed(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_committed_notebook_holds_no_outputs_and_asks_for_the_sandbox(name):
    notebook = _committed(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]] == []
    language = CONTAINERS.get(name) or OTHERS.get(name, "python")
    kernel = f"sandbox-{language}-docker" if name in CONTAINERS else f"sandbox-{language}"
    if name in HOSTED:
        kernel = "python3"
    assert notebook["metadata"]["kernelspec"]["name"] == kernel
    told = notebook["metadata"]["language_info"]["name"]
    assert told == languages.get(language).jupyter_name
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_in_time_and_fails_only_where_it_says_so(name, executed):
    done = executed(name)
    code = {key: cell for key, cell in done.cells.items() if cell.cell_type == "code"}
    tagged = {key for key, cell in code.items() if "raises-exception" in _tags(cell)}
    failed = {key for key in code if any(kind == "error" for kind, _ in done.shown(key))}
    assert failed == tagged
    assert done.elapsed_s < TIMEOUT_S


@pytest.mark.parametrize(
    ("name", "cell_id", "kind", "pattern"),
    [
        pytest.param(name, cell_id, *wanted, id=f"{name}-{cell_id}-{place}")
        for name, cells in SHOWN.items()
        for cell_id, rows in cells.items()
        for place, wanted in enumerate(rows)
    ],
)
def test_a_cell_shows_what_its_heading_promises(name, cell_id, kind, pattern, executed):
    outputs = executed(name).shown(cell_id)
    texts = [text for found, text in outputs if re.fullmatch(kind, found)]
    assert any(re.search(pattern, text, re.DOTALL) for text in texts), [
        (found, text[:500]) for found, text in outputs
    ]


def test_nothing_that_the_code_tries_to_reach_is_reached(executed):
    for cell_id in ("network", "files"):
        assert ": reached" not in str(executed("01-quick-start").shown(cell_id))


def test_a_picture_that_was_displayed_and_saved_shows_once(executed):
    kinds = [kind for kind, _ in executed("03-files-in-and-out").shown("once")]
    assert kinds.count("image/png") == 1


def test_a_cell_that_writes_nothing_shows_no_files(executed):
    assert [kind for kind, _ in executed("03-files-in-and-out").shown("quiet")] == ["stdout"]


def test_a_large_file_is_a_line_and_not_its_bytes(executed):
    assert len(str(executed("03-files-in-and-out").shown("big"))) < 10_000


def test_the_fetched_file_is_sorted_and_lies_beneath_the_notebooks_folder(executed):
    folder = executed("03-files-in-and-out").folder
    fetched = json.loads((folder / "earthquakes-sorted.json").read_text(encoding="utf-8"))
    magnitudes = [earthquake["magnitude"] for earthquake in fetched]
    assert magnitudes == sorted(magnitudes, reverse=True)
    assert len(magnitudes) == 297


def test_what_was_not_fetched_stays_off_the_host(executed):
    folder = executed("03-files-in-and-out").folder
    new = {path.name for path in folder.iterdir()} - {path.name for path in FOLDER.iterdir()}
    assert new <= {"earthquakes-sorted.json"}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["notebooks"]


def test_a_picture_that_a_container_saved_is_all_that_its_cell_shows(executed):
    kinds = [kind for kind, _ in executed("04-containers").shown("swarm")]
    assert kinds.count("image/png") == 1
    assert "stderr" not in kinds


def test_the_table_of_languages_names_all_there_are_with_their_images_and_programs():
    committed = _committed("05-languages-and-images")["cells"]
    (source,) = ("".join(cell["source"]) for cell in committed if cell["id"] == "languages-title")
    rows = re.findall(r"^\| (`[a-z`, ]+) \| `([^`]+)` \| (.*) \|$", source, re.MULTILINE)
    told = {
        name: (image, programs)
        for names, image, programs in rows
        for name in re.findall(r"`([^`]+)`", names)
    }
    assert sorted(told) == sorted(languages.names())
    for name, (image, programs) in told.items():
        language = languages.get(name)
        assert image == language.image
        assert name == "python" or f"`{language.command[0]}`" in programs


def test_data_is_small_and_its_source_is_named():
    described = (FOLDER / "data" / "README.md").read_text(encoding="utf-8")
    for path in (FOLDER / "data").iterdir():
        assert path.stat().st_size <= 200_000
        assert path.name == "README.md" or f"`{path.name}`" in described
