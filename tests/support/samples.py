"""A cell in each language, with a comment, words, a text and a number: something to colour."""

from __future__ import annotations

from typing import NamedTuple


class Sample(NamedTuple):
    """One cell."""

    code: str
    output: str  # a part of what it prints
    text: str = "sand"  # a text literal in it, without its quotes


SAMPLES = {
    "python": Sample(
        "# A day on the beach\ndef castle(towers):\n    return 'sand' + '^' * towers\n\n"
        "print(castle(3))",
        "sand^^^",
    ),
    "bash": Sample(
        '# A day on the beach\nword="sand"\nfor n in 1 2 3; do\n  echo "$word $n"\ndone | tail -1',
        "sand 3",
    ),
    "javascript": Sample(
        "// A day on the beach\nconst castle = (towers) => 'sand' + '^'.repeat(towers);\n"
        "function show(n) { return `${castle(n)} ${n}`; }\nconsole.log(show(3));",
        "sand^^^ 3",
    ),
    "typescript": Sample(
        "// A day on the beach\ninterface Castle { towers: number }\n"
        "const show = (c: Castle): string => 'sand' + '^'.repeat(c.towers);\n"
        "console.log(show({ towers: 3 }));",
        "sand^^^",
    ),
    "r": Sample(
        "# A day on the beach\ncastle <- function(towers) {\n"
        '  paste0("sand", strrep("^", towers))\n'
        "}\nif (TRUE) cat(castle(3))",
        "sand^^^",
    ),
    "ruby": Sample(
        "# A day on the beach\ndef castle(towers)\n  'sand' + '^' * towers\nend\nputs castle(3)",
        "sand^^^",
    ),
    "perl": Sample(
        "# A day on the beach\nsub castle {\n  my ($towers) = @_;\n"
        '  return "sand" . "^" x $towers;\n'
        "}\nprint castle(3);",
        "sand^^^",
    ),
    "php": Sample(
        "// A day on the beach\nfunction castle($towers) {\n"
        '    return "sand" . str_repeat("^", $towers);\n}\n'
        "foreach ([2, 3] as $n) { echo castle($n); }",
        "sand^^^",
    ),
    "lua": Sample(
        "-- A day on the beach\nlocal function castle(towers)\n"
        "  return 'sand' .. string.rep('^', towers)\nend\nprint(castle(3))",
        "sand^^^",
    ),
    "sql": Sample(
        "-- A day on the beach\nSELECT 'sand' AS what, 40 + 2 AS towers WHERE 1 < 2;",
        "42",
    ),
    "deno": Sample(
        "// A day on the beach\ninterface Castle { towers: number }\n"
        "const show = (c: Castle): string => 'sand' + '^'.repeat(c.towers);\n"
        "console.log(show({ towers: 3 }));",
        "sand^^^",
    ),
    "ipykernel": Sample(
        "# A day on the beach\ndef castle(towers):\n    return 'sand' + '^' * towers\n\n"
        "print(castle(3))",
        "sand^^^",
    ),
}
