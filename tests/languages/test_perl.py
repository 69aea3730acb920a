"""Perl: what is its own beside what every language does."""

from __future__ import annotations

import pytest

from sandbox_kernel import events
from tests.languages import scripting
from tests.languages.scripting import bundles, failure, printed, result

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def language_name() -> str:
    return "perl"


async def test_lexical_variables_of_every_sort_live_on(driver):
    await printed(
        driver, "my $n = 5; my @list = (1, 2); my %map = (k => 'v'); my ($p, undef, $q) = 7 .. 9;"
    )
    assert await result(driver, '"$n @list $map{k} $p $q"') == "'5 1 2 v 7 9'"


async def test_what_a_block_declares_ends_with_it(driver):
    error = await failure(driver, "use strict; { my $inside = 1; } $inside")
    assert 'Global symbol "$inside"' in error.value
    await printed(driver, "no strict;")


async def test_subs_and_closures_share_a_variable_with_later_cells(driver):
    await printed(driver, "my $seen = 0; sub see { return ++$seen } my $look = sub { $seen };")
    assert await result(driver, "see(); $seen = 10;", "see() . $look->()") == "1111"


async def test_pragmas_last_as_if_all_cells_were_one_file(driver):
    await printed(driver, "use strict; use warnings;")
    assert (await failure(driver, "$undeclared = 1;")).name == "SyntaxError"
    assert "uninitialized" in (await scripting.run(driver, 'my $u; my $t = "a$u";')).text("stderr")
    await printed(driver, "no strict; no warnings;", "$undeclared = 1;")


async def test_what_was_declared_stays_though_the_cell_died(driver):
    await failure(driver, "my $before = 3; die 'half-way';")
    assert await result(driver, "$before") == "3"


async def test_a_cell_that_does_not_compile_declares_nothing(driver):
    await printed(driver, "my $safe = 1;")
    await failure(driver, "if (1) { my $safe = 2;")
    assert await result(driver, "$safe") == "1"


async def test_hundreds_of_variables_are_no_trouble(driver):
    for index in range(0, 200, 50):
        await printed(driver, " ".join(f"my $many{i} = {i};" for i in range(index, index + 50)))
    assert await result(driver, "$many0 + $many199") == "199"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("6 * 7", "42"),
        ("6 * 7;", None),
        ("'it'", "'it'"),
        ("(1, 'a')", "(1, 'a')"),
        ("[1, {b => undef}]", "[1, {b => undef}]"),
        ("my $x = 4;\n$x + 1", "5"),
        ("print 'p'", None),
        ("for (1 .. 2) { $_ }", None),
        ("sub nothing { 1 }", None),
        ("local $_ = 'abc'; /b/ ? 'm' : 'n'", "'m'"),
        ("my @z = map { $_ * 2 } 1 .. 3; @z", "(2, 4, 6)"),
        ("<<A . 'b'\nhe\nA\n", "'he\nb'"),
    ],
)
async def test_a_value_is_shown_where_no_semicolon_ends_it(driver, code, shown):
    assert await result(driver, code) == shown


async def test_text_comes_out_right_as_bytes_and_as_characters(driver):
    assert await printed(driver, 'print "é✓";') == "é✓"
    assert await printed(driver, 'use utf8; print "é✓", length "é✓"; no utf8;') == "é✓2"
    assert await printed(driver, r'binmode STDOUT, ":utf8"; print "\xe9"; binmode STDOUT;') == "é"


async def test_every_way_to_print_keeps_its_stream(driver):
    cell = await scripting.run(
        driver,
        "say 1; printf '%02d', 2; print {*STDOUT} 3; STDOUT->print(4); warn 'w'; print STDERR 5;",
    )
    assert cell.text() == "1\n0234"
    assert cell.text("stderr").startswith("w at Cell[")
    assert cell.text("stderr").endswith("5")


async def test_a_death_tells_its_line_and_who_called(driver):
    await printed(driver, "sub inner {\n  die 'no';\n}\nsub outer { inner() }")
    error = await failure(driver, "\nouter();")
    trace = "\n".join(error.traceback)
    assert "line 2." in error.value
    assert "main::outer called at Cell[9] line 2" in trace
    assert "perl.pl" not in trace


async def test_a_caught_death_goes_unseen(driver):
    assert await printed(driver, 'eval { die "inner\\n" }; print "got $@";') == "got inner\n"


async def test_an_object_that_was_thrown_names_the_error(driver):
    error = await failure(driver, "die bless {code => 5}, 'My::Error';")
    assert error.name == "My::Error"
    assert "code => 5" in error.value


@pytest.mark.parametrize(
    ("code", "status"),
    [("exit;", "ok"), ("exit 3;", "error"), ("eval { exit 2 };", "error"), ("exit(0);", "ok")],
)
async def test_exit_ends_the_cell_alone_even_inside_an_eval(driver, code, status):
    await printed(driver, "my $kept = 1;")
    cell = await driver.run(f"{code} print 'on';")
    assert cell.outcome.status == status
    assert cell.text() == ""
    assert await result(driver, "$kept") == "1"


async def test_a_fork_that_runs_past_its_end_is_heard_once(driver):
    cell = await scripting.run(
        driver, "my $kid = fork; waitpid $kid, 0 if $kid; print 'kid' if !$kid; $kid ? 'parent' : 0"
    )
    assert [event.bundle["text/plain"] for event in cell.of(events.ResultShown)] == ["'parent'"]
    assert cell.text() == "kid"


async def test_a_redirection_of_a_cell_ends_with_it(driver):
    await printed(driver, "open STDOUT, '>', 'out.txt'; print 'to a file';")
    assert await printed(driver, "open my $f, '<', 'out.txt'; print <$f>;") == "to a file"
    assert await printed(driver, "system 'echo child';") == "child\n"


async def test_lines_are_read_from_every_input_handle(driver):
    cell = await scripting.answered(
        driver, "chomp(my $a1 = <STDIN>); my $b1 = <>; $a1 . $b1", "a", "b"
    )
    (shown,) = cell.of(events.ResultShown)
    assert shown.bundle["text/plain"] == "'ab\n'"


async def test_data_after_the_end_is_read(driver):
    assert await printed(driver, "print while <DATA>;\n__END__\nl1\nl2\n") == "l1\nl2\n"


async def test_rich_displays(driver):
    code = (
        "package Row { sub new { bless {}, shift } sub to_html { '<b>r</b>' } }\n"
        "Jupyter::json({a => 1});\nRow->new"
    )
    first, second = await bundles(driver, code)
    assert first == {"application/json": {"a": 1}}
    assert second["text/html"] == "<b>r</b>"


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("$tot", "$total"),
        ("$conf{na", "name"),
        ("prin", "printf"),
        ("List::Util::su", "List::Util::sum"),
    ],
)
async def test_completion_knows_variables_keys_and_subs(driver, code, match):
    await printed(driver, "my $total = 1; my %conf = (name => 1); use List::Util;")
    assert match in await scripting.completions(driver, code)


async def test_inspection_shows_values_and_places(driver):
    await printed(driver, "my @found = (1, 2);\nsub place { 1 }")
    assert await scripting.described(driver, "@found") == "@found = [1, 2]"
    assert await scripting.described(driver, "place") != ""
    assert await scripting.described(driver, "no_such_name") == ""


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("if (1) {", "incomplete"),
        ("my $x =", "incomplete"),
        ("<<A\nx", "incomplete"),
        ("}", "invalid"),
        ("my $x = 1;", "complete"),
    ],
)
async def test_perl_itself_says_what_is_unfinished(driver, code, status):
    assert await scripting.completeness(driver, code) == status
