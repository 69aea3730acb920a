"""The same things said in every language that has a runner: data for tests and nothing else.

A field is None where the language has no such thing; the test then says so by a skip.
"""

from __future__ import annotations

from typing import NamedTuple

# A PNG of one pixel, as text that every language can turn into bytes.
PIXEL_HEX = (
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


class Snippets(NamedTuple):
    """Code of one language, by what it does."""

    say: str  # prints "héllo ✓ 𝄞" and a newline
    remember: str  # keeps 40 in a variable, by a function that adds to it
    recall: str  # prints that variable and 2: 42
    value: tuple[str, str]  # an expression, and the text of its result
    many: str  # prints "line 0" to "line 9999"
    failure: tuple[str, str]  # fails in its third line; a word of the error's name or value
    syntax: str  # is no code
    busy: str  # prints "started", then computes for ever
    sleep: str  # prints "started", then waits for ever
    ask: str | None  # asks "Name? " and prints "Hello, <answer>!"
    child: str  # has another program print "from a child"
    both: str  # prints "to stdout" and "to stderr"
    picture: str  # writes PIXEL_HEX as bytes to chart.png
    leave: str  # ends itself with exit code 3
    complete: tuple[str, str] | None  # unfinished code, one of its completions
    unfinished: str | None  # code that goes on in the next line
    expression: tuple[str, str] | None  # for user_expressions, and its text


SNIPPETS: dict[str, Snippets] = {
    "bash": Snippets(
        say="echo 'héllo ✓ 𝄞'",
        remember="count=40\nadd() { count=$((count + $1)); }",
        recall="add 2\necho $count",
        value=("", ""),
        many='for ((i = 0; i < 10000; i++)); do echo "line $i"; done',
        failure=("true\ntrue\nno_such_command_here", "no_such_command_here"),
        syntax="if true; then (",
        busy="echo started; while :; do :; done",
        sleep="echo started; sleep 1000",
        ask='read -r -p "Name? " name; echo "Hello, $name!"',
        child="env echo from a child",
        both="echo to stdout; echo to stderr >&2",
        picture=f"printf '%b' \"$(echo {PIXEL_HEX} | sed 's/../\\\\x&/g')\" > chart.png",
        leave="kill -KILL $$",
        complete=("ech", "echo"),
        unfinished="if true; then",
        expression=("$((6 * 7))", "42"),
    ),
    "javascript": Snippets(
        say="console.log('héllo ✓ 𝄞')",
        remember="let count = 40;\nconst add = (n) => { count += n; };",
        recall="add(2);\nconsole.log(count)",
        value=("[1, 2, 3].map((x) => x * 2)", "[ 2, 4, 6 ]"),
        many="for (let i = 0; i < 10000; i++) console.log(`line ${i}`)",
        failure=("let a = 1;\nlet b = 2;\nnull.nothing", "TypeError"),
        syntax="let = = 3",
        busy="console.log('started'); while (true) {}",
        sleep="console.log('started'); await new Promise(() => setInterval(() => {}, 1000))",
        ask="const name = prompt('Name? '); console.log(`Hello, ${name}!`)",
        child="require('child_process').execSync('echo from a child', {stdio: 'inherit'}); null",
        both="console.log('to stdout'); console.error('to stderr')",
        picture=f"require('fs').writeFileSync('chart.png', Buffer.from('{PIXEL_HEX}', 'hex'))",
        leave="process.kill(process.pid, 'SIGKILL')",
        complete=("Math.sq", "sqrt"),
        unfinished="function f() {",
        expression=("6 * 7", "42"),
    ),
    "typescript": Snippets(
        say="const text: string = 'héllo ✓ 𝄞';\nconsole.log(text)",
        remember="let count: number = 40;\nconst add = (n: number): void => { count += n; };",
        recall="add(2);\nconsole.log(count as number)",
        value=("[1, 2, 3].map((x: number): number => x * 2)", "[ 2, 4, 6 ]"),
        many="for (let i: number = 0; i < 10000; i++) console.log(`line ${i}`)",
        failure=("let a: number = 1;\nlet b: number = 2;\n(null as any).nothing", "TypeError"),
        syntax="let x: = = 3",
        busy="console.log('started'); while (true) {}",
        sleep="console.log('started'); await new Promise<void>(() => setInterval(() => {}, 1000))",
        ask="const name: string | null = prompt('Name? '); console.log(`Hello, ${name}!`)",
        child="require('child_process').execSync('echo from a child', {stdio: 'inherit'}); null",
        both="console.log('to stdout'); console.error('to stderr')",
        picture=f"require('fs').writeFileSync('chart.png', Buffer.from('{PIXEL_HEX}', 'hex'))",
        leave="process.kill(process.pid, 'SIGKILL')",
        complete=("Math.sq", "sqrt"),
        unfinished="function f(): void {",
        expression=("6 * 7", "42"),
    ),
    "ruby": Snippets(
        say="puts 'héllo ✓ 𝄞'",
        remember="count = 40\nadd = ->(n) { count += n }",
        recall="add.(2)\nputs count",
        value=("[1, 2, 3].map { |x| x * 2 }", "[2, 4, 6]"),
        many='10000.times { |i| puts "line #{i}" }',
        failure=("a = 1\nb = 2\nnil.nothing", "NoMethodError"),
        syntax="def (",
        busy="puts 'started'\nloop {}",
        sleep="puts 'started'\nsleep",
        ask="print 'Name? '\nname = gets.chomp\nputs \"Hello, #{name}!\"",
        child="system('echo from a child')",
        both="puts 'to stdout'\nwarn 'to stderr'",
        picture=f"File.binwrite('chart.png', ['{PIXEL_HEX}'].pack('H*'))",
        leave="exit!(3)",
        complete=("[1].revers", "reverse"),
        unfinished="def f",
        expression=("6 * 7", "42"),
    ),
    "perl": Snippets(
        say='print "héllo ✓ 𝄞\\n";',
        remember="my $count = 40;\nsub add { $count += shift }",
        recall='add(2);\nprint "$count\\n";',
        value=("6 * 7", "42"),
        many='print "line $_\\n" for 0 .. 9999;',
        failure=("my $a1 = 1;\nmy $b1 = 2;\nnothing_here();", "nothing_here"),
        syntax="my $x = = 3;",
        busy='print "started\\n"; 1 while 1;',
        sleep='print "started\\n"; sleep 1000;',
        ask='print "Name? "; my $name = <STDIN>; chomp $name; print "Hello, $name!\\n";',
        child='system("echo from a child");',
        both='print "to stdout\\n"; print STDERR "to stderr\\n";',
        picture=f"open my $f, '>:raw', 'chart.png'; print $f pack('H*', '{PIXEL_HEX}'); close $f;",
        leave="require POSIX; POSIX::_exit(3);",
        complete=("prin", "print"),
        unfinished="sub f {",
        expression=("6 * 7", "42"),
    ),
    "php": Snippets(
        say='echo "héllo ✓ 𝄞\\n";',
        remember="$count = 40;\nfunction add($n) { global $count; $count += $n; }",
        recall='add(2);\necho "$count\\n";',
        value=("6 * 7", "42"),
        many='for ($i = 0; $i < 10000; $i++) echo "line $i\\n";',
        failure=("$a = 1;\n$b = 2;\nnothing_here();", "nothing_here"),
        syntax="$x = = 3;",
        busy='echo "started\\n"; while (true) {}',
        sleep='echo "started\\n"; sleep(1000);',
        ask='$name = readline("Name? "); echo "Hello, $name!\\n";',
        child='passthru("echo from a child");',
        both='echo "to stdout\\n"; fwrite(STDERR, "to stderr\\n");',
        picture=f"file_put_contents('chart.png', hex2bin('{PIXEL_HEX}'));",
        leave="posix_kill(getmypid(), 9);",
        complete=("str_repl", "str_replace"),
        unfinished="function f() {",
        expression=("6 * 7", "42"),
    ),
    "lua": Snippets(
        say="print('héllo ✓ 𝄞')",
        remember="count = 40\nfunction add(n) count = count + n end",
        recall="add(2)\nprint(count)",
        value=("6 * 7", "42"),
        many="for i = 0, 9999 do print('line ' .. i) end",
        failure=("local a = 1\nlocal b = 2\nlocal c = nothing.here", "nothing"),
        syntax="x = = 3",
        busy="print('started') while true do end",
        sleep="print('started') os.execute('sleep 1000')",
        ask="io.write('Name? ') local name = io.read() print('Hello, ' .. name .. '!')",
        child="os.execute('echo from a child')",
        both="print('to stdout') io.stderr:write('to stderr\\n')",
        picture=(
            "local f = io.open('chart.png', 'wb')\n"
            f"f:write((('{PIXEL_HEX}'):gsub('..', function(h) "
            "return string.char(tonumber(h, 16)) end)))\nf:close()"
        ),
        leave="os.execute('kill -9 $PPID')",
        complete=("string.for", "format"),
        unfinished="function f()",
        expression=("6 * 7", "42"),
    ),
    "r": Snippets(
        say="cat('héllo ✓ 𝄞\\n')",
        remember="count <- 40\nadd <- function(n) count <<- count + n",
        recall="add(2)\ncat(count, '\\n', sep = '')",
        value=("c(1, 2, 3) * 2", "[1] 2 4 6"),
        many="cat(paste('line', 0:9999), sep = '\\n')",
        failure=("a <- 1\nb <- 2\nnothing_here()", "nothing_here"),
        syntax="x = = 3",
        busy="cat('started\\n'); flush(stdout()); while (TRUE) {}",
        sleep="cat('started\\n'); flush(stdout()); Sys.sleep(1000)",
        ask="name <- readline('Name? '); cat('Hello, ', name, '!\\n', sep = '')",
        child="system('echo from a child')",
        both="cat('to stdout\\n'); message('to stderr')",
        picture=(
            f"h <- '{PIXEL_HEX}'\nn <- seq(1, nchar(h), 2)\n"
            "writeBin(as.raw(strtoi(substring(h, n, n + 1), 16L)), 'chart.png')"
        ),
        leave="quit(status = 3)",
        complete=("rnor", "rnorm"),
        unfinished="f <- function() {",
        expression=("6 * 7", "42"),
    ),
}
