"""The field's conformance kit for every language that has a runner, on both backends.

The kernelspec is the installed one; the language, the backend and the image are settings.
What a language has no form of (a pager, a value of a shell's command) the kit skips.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from sandbox_kernel.availability import find_problem
from tests.support import docker_engine, patient_kit
from tests.support.kernels import IS_OURS, KERNEL_NAME

POLYGLOT = "sandbox-kernel/polyglot"
HISTORY = ("tail", "range", "search")

KITS: dict[str, dict[str, Any]] = {
    "bash": {
        "code_hello_world": "echo hello, world",
        "code_stderr": "echo test >&2",
        "completion_samples": [{"text": "ech", "matches": {"echo"}}],
        "complete_code_samples": ["echo hi", "for i in 1 2; do echo $i; done"],
        "incomplete_code_samples": ["for i in 1 2; do", 'echo "open'],
        "invalid_code_samples": ["fi", "done done"],
        "code_generate_error": "(exit 3)",
    },
    "javascript": {
        "code_hello_world": "console.log('hello, world')",
        "code_stderr": "console.error('test')",
        "completion_samples": [{"text": "Math.sq", "matches": {"sqrt"}}],
        "complete_code_samples": ["1 + 1", "function f() { return 1 }"],
        "incomplete_code_samples": ["function f() {", "`open"],
        "invalid_code_samples": ["let = = 3"],
        "code_generate_error": "throw new Error('wanted')",
        "code_execute_result": [{"code": "1 + 2 + 3", "result": "6"}],
        "code_display_data": [{"code": "display.html('<b>bold</b>')", "mime": "text/html"}],
        "code_inspect_sample": "Math.max",
    },
    "typescript": {
        "code_hello_world": "const s: string = 'hello, world'; console.log(s)",
        "code_stderr": "console.error('test' as string)",
        "completion_samples": [{"text": "Math.sq", "matches": {"sqrt"}}],
        "complete_code_samples": ["1 + 1", "function f(n: number): number { return n }"],
        "incomplete_code_samples": ["function f(n: number) {"],
        "invalid_code_samples": ["let x: = = 3"],
        "code_generate_error": "throw new Error('wanted' as string)",
        "code_execute_result": [{"code": "(1 as number) + 2 + 3", "result": "6"}],
    },
    "ruby": {
        "code_hello_world": "puts 'hello, world'",
        "code_stderr": "warn 'test'",
        "completion_samples": [{"text": "$stdo", "matches": {"$stdout"}}],
        "complete_code_samples": ["1 + 1", "def f\n  1\nend"],
        "incomplete_code_samples": ["def f", "[1,"],
        "invalid_code_samples": ["def )"],
        "code_generate_error": "raise 'wanted'",
        "code_execute_result": [{"code": "1 + 2 + 3", "result": "6"}],
        "code_inspect_sample": "puts",
    },
    "perl": {
        "code_hello_world": 'print "hello, world\\n";',
        "code_stderr": 'print STDERR "test\\n";',
        "completion_samples": [{"text": "prin", "matches": {"print", "printf"}}],
        "complete_code_samples": ["my $x = 1;", "sub f { 1 }"],
        "incomplete_code_samples": ["sub f {"],
        "invalid_code_samples": ["my $x = = 3;"],
        "code_generate_error": "die 'wanted';",
        "code_execute_result": [{"code": "1 + 2 + 3", "result": "6"}],
    },
    "php": {
        "code_hello_world": 'echo "hello, world\\n";',
        "code_stderr": 'fwrite(STDERR, "test\\n");',
        "completion_samples": [{"text": "str_repl", "matches": {"str_replace"}}],
        "complete_code_samples": ["$x = 1;", "function f() { return 1; }"],
        "incomplete_code_samples": ["function f() {"],
        "invalid_code_samples": ["$x = = 3;"],
        "code_generate_error": "throw new Exception('wanted');",
        "code_execute_result": [{"code": "1 + 2 + 3", "result": "6"}],
    },
    "lua": {
        "code_hello_world": "print('hello, world')",
        "code_stderr": "io.stderr:write('test\\n')",
        "completion_samples": [{"text": "string.for", "matches": {"format"}}],
        "complete_code_samples": ["x = 1", "function f() return 1 end"],
        "incomplete_code_samples": ["function f()"],
        "invalid_code_samples": ["x = = 3"],
        "code_generate_error": "error('wanted')",
        "code_execute_result": [{"code": "1 + 2 + 3", "result": "6"}],
    },
    "r": {
        "language_name": "R",
        "code_hello_world": "cat('hello, world\\n')",
        "code_stderr": "message('test')",
        "completion_samples": [{"text": "rnor", "matches": {"rnorm"}}],
        "complete_code_samples": ["1 + 1", "f <- function() 1"],
        "incomplete_code_samples": ["f <- function() {"],
        "invalid_code_samples": ["x = = 3"],
        "code_generate_error": "stop('wanted')",
        "code_execute_result": [{"code": "1 + 2 + 3", "result": "[1] 6"}],
        "code_display_data": [{"code": "plot(1:3)", "mime": "image/png"}],
        "code_inspect_sample": "rnorm",
    },
    "sql": {
        "code_execute_result": [{"code": "SELECT 42 AS answer", "mime": "text/html"}],
        "completion_samples": [{"text": "SELEC", "matches": {"SELECT"}}],
        "complete_code_samples": ["SELECT 1;"],
        "incomplete_code_samples": ["SELECT (1"],
        "code_generate_error": "SELECT * FROM no_such_table_here",
    },
}


class _Kit(patient_kit.KernelTests):
    kernel_name = KERNEL_NAME
    language: ClassVar[str]
    backend: ClassVar[str]
    supported_history_operations = HISTORY

    @classmethod
    def setUpClass(cls) -> None:
        if not IS_OURS:
            pytest.skip("the reference kernel has one language")
        variables = {"LANGUAGE": cls.language, "BACKEND": cls.backend}
        if cls.backend == "docker":
            docker_engine.require()
            docker_engine.require_image(POLYGLOT)
            variables["IMAGE"] = POLYGLOT
        elif reason := find_problem(cls.language):
            pytest.skip(f"{cls.language}: {reason}")
        with pytest.MonkeyPatch.context() as patched:  # the kit starts it with our environment
            for name, text in variables.items():
                patched.setenv(f"SANDBOX_KERNEL_{name}", text)
            super().setUpClass()


for _language, _data in KITS.items():
    for _backend in ("auto", "docker"):
        _name = f"Test{_language.title()}On{_backend.title()}"
        _samples = _data.get("code_execute_result", [{"code": "*"}])
        _fields = {"code_history_pattern": f"{_samples[0]['code'][:9]}*"}
        _fields |= {"language": _language, "backend": _backend, "language_name": _language, **_data}
        globals()[_name] = type(_name, (_Kit,), {"__module__": __name__, **_fields})
del _Kit
