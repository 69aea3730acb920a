"""The examples of the packages that we start from, each in our terms.

interpreter-tools: basic use, the engine alone, Python with dependencies, a chart, sorting JSON,
a shell with jq, a Node project, Ruby registered on the fly, the tool for models, pools.
"""

from __future__ import annotations

import json

import pytest

from sandbox_kernel import Engine, Limits, Strategy, languages
from sandbox_kernel.languages import Language
from tests.support import docker_engine
from tests.support.package_index import wheel

JQ = "command -v jq"


async def session_of(engine, language, **options):
    """A session, where there is a sandbox for that language here."""
    if engine.backend.name == "docker":
        docker_engine.require_image(languages.get(language).image)
    return await engine.create_session(language, **options)


async def test_basic_use(engine):
    session = await session_of(engine, "javascript", strategy=Strategy.PER_EXECUTION)
    result = await session.execute("console.log('Hello, World!')")
    assert (result.stdout, result.exit_code) == ("Hello, World!\n", 0)
    failed = await session.execute("throw new Error('mine')")
    assert (failed.ok, failed.exit_code) == (False, 1)
    assert "mine" in str(failed.error)


async def test_the_engine_alone(backend):
    """Its "Direct Engine Usage", output and all."""
    heard = []
    if backend == "docker":
        docker_engine.require_image(languages.get("javascript").image)
    async with Engine(backend) as engine:
        session = await engine.create_session(
            "javascript",
            strategy=Strategy.PER_EXECUTION,
            environment={"NODE_ENV": "development"},
        )
        result = await session.execute(
            """
            const numbers = [1, 2, 3, 4, 5];
            const sum = numbers.reduce((a, b) => a + b, 0);
            const average = sum / numbers.length;
            console.log('Numbers:', numbers);
            console.log('Sum:', sum);
            console.log('Average:', average, process.env.NODE_ENV);
            """,
            on_stdout=heard.append,
        )
    assert "Sum: 15\nAverage: 3 development\n" in result.stdout
    assert "".join(heard) == result.stdout
    assert (result.stderr, result.exit_code) == ("", 0)  # theirs says 1 for 0
    assert result.duration_s > 0


async def test_python_with_dependencies(building, engine, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheel(building.packages, "tables", {"tables.py": "def show(row): return ' | '.join(row)\n"})
    session = await engine.create_session("python")
    installing = []
    result = await session.execute(
        "import tables; print(tables.show(['a', 'b']))",
        dependencies=["tables"],
        on_dependency_output=installing.append,
    )
    assert result.stdout == "a | b\n"
    assert "tables" in "".join(installing)
    assert "tables" not in result.stdout + result.stderr
    from sandbox_kernel.dependencies.store import Store

    await session.close()
    Store(engine.backend.name, engine.backend.layer_store()).remove_all()


CHART = """
import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
plt.plot([1, 2, 3], [1, 4, 9])
plt.savefig('chart.png')
"""


async def test_a_chart_is_generated_and_retrieved(engine, tmp_path):
    session = await engine.create_session("python", limits=Limits(timeout_s=100))
    if not (await session.execute("import matplotlib")).ok:
        pytest.skip("There is no matplotlib in this sandbox.")
    shown = []
    result = await session.execute(CHART, on_display=shown.append)
    assert [file.name for file in result.files] == ["chart.png"]
    content = await session.files.read("chart.png")
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content in [one.content("image/png") for one in shown if "image/png" in one.bundle]
    await session.close(keep_generated=tmp_path)
    assert (tmp_path / "chart.png").read_bytes() == content


async def test_json_goes_in_and_comes_out_sorted(engine, tmp_path):
    session = await engine.create_session("python", strategy=Strategy.PER_EXECUTION)
    people = [{"name": "b", "age": 30}, {"name": "a", "age": 20}]
    (tmp_path / "people.json").write_text(json.dumps(people))
    await session.files.copy_in(tmp_path / "people.json")
    result = await session.execute(
        "import json\n"
        "with open('people.json') as file: people = json.load(file)\n"
        "people.sort(key=lambda one: one['age'])\n"
        "with open('sorted.json', 'w') as file: json.dump(people, file)"
    )
    assert [file.name for file in result.files] == ["sorted.json"]
    assert json.loads(await session.files.read("sorted.json")) == people[::-1]


async def test_a_shell_makes_directories_and_reads_json(engine):
    session = await engine.create_session("bash")
    result = await session.execute(
        'mkdir -p data && echo \'{"name": "Ann"}\' > data/user.json\n'
        'sed -n \'s/.*"name": "\\(.*\\)".*/\\1/p\' data/user.json'
    )
    assert result.stdout == "Ann\n"
    assert [file.name for file in result.files] == ["data/user.json"]
    if not (await session.run(JQ)).ok:
        pytest.skip("There is no jq in this sandbox, and no index of Debian's packages here.")
    result = await session.execute("jq -r .name data/user.json")
    assert result.stdout == "Ann\n"


async def test_a_shell_streams(engine):
    session = await engine.create_session("shell")
    heard = []

    def go_on(_prompt):  # which it waits for, after each line
        heard.append("go on")
        return ""

    code = "for i in 1 2 3; do echo $i; read -r go; done"
    await session.execute(code, on_stdout=heard.append, stdin=go_on)
    assert heard == ["1\n", "go on", "2\n", "go on", "3\n", "go on"]


async def test_a_node_project_of_several_files(engine):
    session = await session_of(engine, "javascript")
    result = await session.run_app(
        {
            "package.json": json.dumps({"name": "app", "version": "1.0.0", "main": "index.js"}),
            "index.js": "const { greet } = require('./lib/greet');\n"
            "console.log(greet(process.argv[2]));\n",
            "lib/greet.js": "exports.greet = (name) => `Hello, ${name}!`;\n",
        },
        entry="index.js",
        arguments=["Ann"],
    )
    assert (result.stdout, result.exit_code) == ("Hello, Ann!\n", 0)


async def test_ruby_is_registered_on_the_fly(engine, monkeypatch):
    """Theirs is `sh -c "ruby code.rb"`, and so is this: ours stays what it was elsewhere."""
    monkeypatch.setattr(languages, "_registered", {})
    image = languages.get("ruby").image
    languages.register(
        Language(
            name="ruby",
            display_name="Ruby",
            file_extension=".rb",
            mimetype="text/x-ruby",
            codemirror_mode="ruby",
            pygments_lexer="ruby",
            image=image,
            command=("sh", "-c", "ruby {file}"),
        )
    )
    session = await session_of(engine, "ruby")
    if not (await session.run("command -v ruby")).ok:
        pytest.skip("There is no ruby in this sandbox.")
    result = await session.execute("puts [3, 1, 2].sort.inspect\nFile.write('a', 'b')")
    assert result.stdout == "[1, 2, 3]\n"
    assert [file.name for file in result.files] == ["a"]
    assert (await session.execute("exit 4")).exit_code == 4


async def test_a_pool_is_quick_and_never_the_same_sandbox(engine):
    session = await engine.create_session("python", strategy=Strategy.POOL, pool_size=2)
    for number in range(3):
        result = await session.execute(
            "import os; print(sorted(os.listdir())); open('mine', 'w').close(); mine = 1"
        )
        assert result.stdout == "[]\n"
        assert len(session.info().sandboxes) == number + 1


async def test_a_tool_for_models(backend):
    """Theirs is called by a model; `tests/ai` does that with models by script."""
    from sandbox_kernel.ai import code_execution_tool

    async with Engine(backend) as engine, code_execution_tool(engine=engine) as execute:
        assert execute.schema["function"]["name"] == "execute_code"
        outcome = await execute(language="python", code="print(sum(range(1, 11)))")
    assert not outcome.is_error
    assert outcome.result.stdout == "55\n"
    assert "55" in outcome.text
