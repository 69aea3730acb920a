"""`chat`: words or code at a terminal; the model writes code, the sandbox runs it.

Lines come from the terminal, from stdin if that is something else, or from `-p`. Exit codes
of the latter two: that of the last line, as `run` has them.
"""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_kernel.cli.options import add_settings, chosen_settings
from sandbox_kernel.errors import FileRefused, SettingsError

if TYPE_CHECKING:
    from sandbox_kernel.ai.chat.shell import NoModel
    from sandbox_kernel.models import Model
    from sandbox_kernel.settings import Settings


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "chat",
        help="talk with a model that runs code in a sandbox",
        description="Say what you want, or type code: the model that the settings name writes "
        "code, and a sandbox of its own runs it. Without a model, every line is code.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "-p", "--prompt", metavar="PROMPT", action="append", default=[], dest="prompts",
        help="ask this, print the answer and leave; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--file", metavar="F", action="append", default=[], dest="files",
        help="copy this file into the sandbox first; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--ask", action="store_true", help="ask before code runs that the model wrote"
    )
    parser.add_argument(
        "--transcript", metavar="NOTEBOOK", default="", help="keep all of it as a new notebook"
    )
    add_settings(parser)
    parser.set_defaults(execute=run)


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from sandbox_kernel.settings import Settings

    settings = Settings.load(chosen_settings(arguments))
    transcript = _new_notebook(arguments.transcript)
    try:
        return asyncio.run(_run(settings, arguments, transcript))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _new_notebook(path: str) -> str:
    """Where the transcript goes; nothing is overwritten.

    Raises:
        FileRefused: something is there.
    """
    if not path:
        return ""
    target = Path(path).expanduser()
    target = target if target.suffix == ".ipynb" else target.with_name(f"{target.name}.ipynb")
    if target.exists():
        raise FileRefused(f"{str(target)!r} exists and is not overwritten. Choose another name.")
    return str(target)


async def _run(settings: Settings, arguments: argparse.Namespace, transcript: str) -> int:
    import asyncio
    import signal

    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    from sandbox_kernel.ai.chat.shell import Chat, Options
    from sandbox_kernel.engine import Engine

    async with AsyncExitStack() as stack:
        model = _model(settings, is_needed=bool(arguments.prompts))
        stack.push_async_callback(model.close)
        # Whoever is at lunch comes back to their variables.
        engine = await stack.enter_async_context(Engine(settings=settings, idle_timeout_s=None))
        session = await engine.create_session(on_dependency_output=_show_installer)
        options = Options(is_asked_first=arguments.ask, transcript=transcript)
        chat = Chat(session, model, settings.limits, options)
        for path in arguments.files:
            await chat.put(Path(path))
        # From here on Ctrl-C is what the person does to one line.
        loop.remove_signal_handler(signal.SIGINT)
        code = await chat.run(arguments.prompts)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # it ends anyway
        return code


def _model(settings: Settings, *, is_needed: bool) -> Model | NoModel:
    """
    Raises:
        ExtraMissing, SettingsError: a model is named that cannot be asked, or none is and
            nothing can be done without.
    """
    from sandbox_kernel.ai.chat.shell import NoModel
    from sandbox_kernel.models import Model

    try:
        return Model.from_settings(settings)
    except SettingsError as error:
        if settings.model is not None or is_needed:
            raise
        return NoModel(str(error))


def _show_installer(text: str) -> None:
    import sys

    from sandbox_kernel.outputs.plain import seen

    sys.stderr.write(seen(text))
    sys.stderr.flush()
