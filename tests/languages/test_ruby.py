"""Ruby: what is its own beside what every language does."""

from __future__ import annotations

import pytest

from sandbox_kernel import events
from tests.languages import scripting
from tests.languages.scripting import bundles, failure, printed, result

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def language_name() -> str:
    return "ruby"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("x = 5", "5"),
        ("x * 2;", None),
        ("nil", None),
        ("'é' * 3", '"ééé"'),
        ("def twice(n) = n * 2\ntwice(4)", "8"),
        ("BasicObject.new", "#<BasicObject>"),
        ("DATA.read\n__END__\nthe rest", '"the rest"'),
        ("require 'json'; JSON.parse('[1]')", "[1]"),
    ],
)
async def test_values_are_shown_as_ruby_inspects_them(driver, code, shown):
    assert await result(driver, "x = 5;", code) == shown


async def test_what_a_method_prints_keeps_its_order_on_both_streams(driver):
    cell = await scripting.run(
        driver, "puts 1; warn 2; p 3; $stderr.print 4; STDOUT << 5; printf('%d', 6)"
    )
    assert cell.text() == "1\n3\n56"
    assert cell.text("stderr") == "2\n4"


async def test_a_trace_has_the_cells_frames_and_none_of_ours(driver):
    await printed(driver, "def inner\n  raise ArgumentError, 'no'\nend")
    error = await failure(driver, "\ninner")
    assert error.name == "ArgumentError"
    trace = "\n".join(error.traceback)
    assert ":2:in" in trace
    assert "Cell[9]:2:in" in trace
    assert "ruby.rb" not in trace
    assert "<internal" not in trace


async def test_a_misspelt_name_is_answered_with_the_likely_one(driver):
    error = await failure(driver, "counter = 1\ncountr")
    assert "Did you mean?  counter" in error.value


async def test_an_interrupt_passes_a_rescue_of_ordinary_errors(driver):
    code = "begin\n  puts 'up'\n  sleep\nrescue StandardError\n  puts 'swallowed'\nend"
    cell = await scripting.interrupted(driver, code)
    assert cell.error.name == "Interrupt"
    assert "swallowed" not in cell.text()


async def test_a_trap_of_a_cell_ends_with_it(driver):
    await printed(driver, "trap('INT') { puts 'mine' }")
    cell = await scripting.interrupted(driver, "puts 'up'; sleep")
    assert cell.error.name == "Interrupt"


@pytest.mark.parametrize(
    ("code", "status"), [("exit", "ok"), ("exit 3", "error"), ("abort", "error")]
)
async def test_exit_ends_the_cell_alone(driver, code, status):
    await printed(driver, "kept = 1")
    assert (await driver.run(f"{code}\nputs 'on'")).outcome.status == status
    assert await result(driver, "kept") == "1"


async def test_a_fork_that_runs_past_its_end_is_heard_once(driver):
    cell = await scripting.run(driver, "if fork then Process.wait; 'parent' else puts 'kid' end")
    assert [event.bundle["text/plain"] for event in cell.of(events.ResultShown)] == ['"parent"']
    assert cell.text() == "kid\n"


async def test_late_output_of_a_thread_belongs_to_the_cell_that_started_it(driver):
    await printed(driver, "go = Queue.new; late = Thread.new { go.pop; puts 'late' }; 1")
    cell = await scripting.run(driver, "go << 1; late.join; puts 'now'")
    assert cell.text() == "now\n"
    texts = [event.text for event in driver.late if isinstance(event, events.TextWritten)]
    assert "late\n" in "".join(texts)


async def test_a_redirection_lasts_until_the_next_cell(driver):
    await printed(driver, "$stdout.reopen('out.txt'); puts 'to a file'")
    assert await printed(driver, "puts File.read('out.txt')") == "to a file\n"


async def test_every_way_to_read_asks(driver):
    code = "[gets, $stdin.readline(chomp: true), STDIN.each_line.first]"
    cell = await scripting.answered(driver, code, "a", "b", "c")
    (shown,) = cell.of(events.ResultShown)
    assert shown.bundle["text/plain"] == r'["a\n", "b", "c\n"]'


async def test_a_password_is_asked_for_as_one(driver):
    cell = await scripting.answered(driver, "require 'io/console'; STDIN.getpass('Key: ')", "s3")
    (question,) = cell.of(events.InputRequested)
    assert (question.prompt, question.is_password) == ("Key: ", True)


async def test_objects_show_the_forms_that_they_have(driver):
    (bundle,) = await bundles(driver, "class Row; def to_html; '<b>row</b>'; end; end\nRow.new")
    assert bundle["text/html"] == "<b>row</b>"
    assert bundle["text/plain"].startswith("#<Row")


async def test_displays_by_type_by_name_and_in_the_manner_of_iruby(driver):
    shown = await bundles(
        driver,
        "Jupyter.json({a: [1]}); Jupyter.display('x', mime: 'text/markdown'); "
        "IRuby.html('<i>y</i>')",
    )
    assert [next(iter(bundle)) for bundle in shown] == [
        "application/json",
        "text/markdown",
        "text/html",
    ]
    assert shown[0]["application/json"] == {"a": [1]}


async def test_a_display_is_replaced(driver):
    cell = await scripting.run(
        driver, "Jupyter.display('old', id: 'd'); Jupyter.update('new', id: 'd')"
    )
    (update,) = cell.of(events.DisplayUpdated)
    assert update.bundle["text/plain"] == "new"


async def test_gems_are_there_though_their_tool_is_loaded_late(driver):
    assert (
        await result(driver, "defined?(Gem::Specification) ? 1 : 1", "Gem::VERSION.empty?")
        == "false"
    )
    error = await failure(driver, "require 'no_such_gem_here'")
    assert error.name == "LoadError"
    assert len(error.traceback) == 1


async def test_a_gem_of_an_attached_directory_is_found(driver):
    """As a layer is attached: by GEM_PATH, which a session may begin with, too."""
    spec = (
        "Gem::Specification.new { |s| s.name = 'hello'; s.version = '1.0'; s.summary = '-'; "
        "s.authors = ['-']; s.files = ['lib/hello.rb'] }"
    )
    await printed(
        driver,
        "require 'fileutils'; FileUtils.mkdir_p(['l/gems/hello-1.0/lib', 'l/specifications'])",
        "File.write('l/gems/hello-1.0/lib/hello.rb', 'module Hello; V = 7; end')",
        f"File.write('l/specifications/hello-1.0.gemspec', {spec!r})",
    )
    await driver.session.restart()
    await printed(driver, "ENV['GEM_PATH'] = File.expand_path('l') + ':';")
    assert await result(driver, "require 'hello'; Hello::V") == "7"


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("counter_1 = 1; coun", "counter_1"),
        ("File.readl", "readlines"),
        ("Math::P", "PI"),
        ("'s'.upc", "upcase"),
    ],
)
async def test_completion_knows_variables_methods_and_constants(driver, code, match):
    await printed(driver, "counter_1 = 1")
    assert match in await scripting.completions(driver, code)


async def test_inspection_tells_signature_and_place(driver):
    await printed(driver, "def area(width, height: 1)\n  width * height\nend")
    assert "area(width, height: …)" in await scripting.described(driver, "area")
    assert await scripting.described(driver, "no_such_name") == ""


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("if x\n  1", "incomplete"),
        ("puts 'a", "incomplete"),
        ("<<A\nx", "incomplete"),
        ("x )", "invalid"),
        ("1 +\n2", "complete"),
    ],
)
async def test_ruby_itself_says_what_is_unfinished(driver, code, status):
    assert await scripting.completeness(driver, code) == status
