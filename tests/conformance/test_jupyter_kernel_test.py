"""The field's own conformance kit, complete: every test configured, none skipped."""

from __future__ import annotations

import jupyter_kernel_test as kit
import pytest

from tests.support import docker_engine, patient_kit
from tests.support.kernels import IS_OURS, KERNEL_NAME

TABLE = "from IPython.display import HTML, display; display(HTML('<b>bold</b>'))"
PIXEL = (
    "from IPython.display import Image, display\n"
    "import base64\n"
    "display(Image(base64.b64decode("
    "'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg==')))"
)


class TestKernel(patient_kit.KernelTests):
    kernel_name = KERNEL_NAME
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = [  # noqa: RUF012
        {"text": "zi", "matches": {"zip"}},
        {"text": "import colle", "matches": {"collections"}},
    ]
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n"]  # noqa: RUF012
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x*2", "for i in range(3):"]  # noqa: RUF012
    invalid_code_samples = ["import = 7q", "a = 1 +* 2"]  # noqa: RUF012
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('wanted')"
    code_execute_result = [  # noqa: RUF012
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
        {"code": "10 * 'z'", "result": repr("z" * 10)},
    ]
    code_display_data = [  # noqa: RUF012
        {"code": TABLE, "mime": "text/html"},
        {"code": PIXEL, "mime": "image/png"},
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"


@pytest.mark.skipif(not IS_OURS, reason="the reference kernel has no backends")
class TestKernelOnDocker(TestKernel):
    """The whole kit again; what the guest has no part in is quick."""

    @classmethod
    def setUpClass(cls) -> None:
        docker_engine.require()
        with pytest.MonkeyPatch.context() as patched:  # the kit starts it with our environment
            patched.setenv("SANDBOX_KERNEL_BACKEND", "docker")
            super().setUpClass()


class TestIopubWelcome(kit.IopubWelcomeTests):
    kernel_name = KERNEL_NAME
    support_iopub_welcome = True


def test_the_kit_has_nothing_left_to_skip():
    """A sample that is not configured would skip its test in silence."""
    names = [name for name in vars(kit.KernelTests) if name.startswith(("code_", "completion_"))]
    names += ["complete_code_samples", "incomplete_code_samples", "invalid_code_samples"]
    assert [name for name in names if not getattr(TestKernel, name)] == []
