"""The tools: what they are called, what they say of themselves, and what they do.

To add one: its arguments in `arguments`, a function here that takes a `Call` and them, and
a row in `TOOLS`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from mcp.types import CallToolResult, Tool, ToolAnnotations
from pydantic import BaseModel

from sandbox_kernel.ai.mcp import arguments as args
from sandbox_kernel.ai.mcp import contents
from sandbox_kernel.ai.mcp.clients import Client
from sandbox_kernel.ai.mcp.progress import Progress, Report


class Call(NamedTuple):
    """Who calls, and how to tell them of progress (None: they did not ask)."""

    client: Client
    report: Report | None


# --- running --------------------------------------------------------------------------


async def run_code(call: Call, given: args.RunCode) -> CallToolResult:
    session, notes = await call.client.session(given.session, language=given.language)
    options: dict[str, Any] = {} if given.timeout_s is None else {"timeout_s": given.timeout_s}
    async with Progress(call.report) as progress:
        result = await session.execute(
            given.code,
            language=given.language,
            dependencies=given.dependencies,
            files=given.files,
            stdin=given.stdin,
            on_stdout=progress.hear,
            on_stderr=progress.hear,
            on_dependency_output=progress.hear,
            **options,
        )
    return await contents.of_run(result, session, notes)


async def run_command(call: Call, given: args.RunCommand) -> CallToolResult:
    session, notes = await call.client.session(given.session)
    options: dict[str, Any] = {} if given.timeout_s is None else {"timeout_s": given.timeout_s}
    async with Progress(call.report) as progress:
        result = await session.run(
            given.command, on_stdout=progress.hear, on_stderr=progress.hear, **options
        )
    return await contents.of_run(result, session, notes)


# --- files ----------------------------------------------------------------------------


async def list_files(call: Call, given: args.OfSession) -> CallToolResult:
    session, _ = await call.client.session(given.session)
    return contents.of_listing(await session.files.list(), session.id)


async def read_file(call: Call, given: args.ReadFile) -> CallToolResult:
    session, _ = await call.client.session(given.session)
    content = await session.files.read(given.name, limit_bytes=contents.MAX_READ_BYTES)
    uri = contents.uri_of(session.id, given.name)
    return contents.of_file(given.name, uri, content, offset=given.offset, limit=given.limit)


async def write_file(call: Call, given: args.WriteFile) -> CallToolResult:
    data = given.data()
    session, notes = await call.client.session(given.session)
    await session.files.write(given.name, data)
    return contents.said("\n".join([*notes, f"Written: {len(data):,} bytes."]))


async def remove_file(call: Call, given: args.RemoveFile) -> CallToolResult:
    session, _ = await call.client.session(given.session)
    await session.files.remove(given.name)
    return contents.said("Removed.")


# --- sessions -------------------------------------------------------------------------


async def create_session(call: Call, given: args.CreateSession) -> CallToolResult:
    session = await call.client.create(given.language, given.labels)
    output = contents.of_session(session, is_default=False)
    return contents.said(
        f"The session {session.id} is there: {output.language}, {output.boundary}. Name it as "
        "`session` in other calls.",
        output,
    )


async def list_sessions(call: Call, _given: args.Nothing) -> CallToolResult:
    found = [
        contents.of_session(one, is_default=call.client.is_default(one))
        for one in call.client.sessions()
    ]
    lines = [contents.session_line(one) for one in found]
    text = "\n".join(lines) or "You have no session yet; run_code makes your default one."
    return contents.said(text, contents.SessionsOutput(sessions=found))


async def session_info(call: Call, given: args.OfSession) -> CallToolResult:
    session, notes = await call.client.session(given.session)
    output = contents.of_session(session, is_default=call.client.is_default(session))
    return contents.said("\n".join([*notes, contents.session_line(output)]), output)


async def restart_session(call: Call, given: args.OfSession) -> CallToolResult:
    session, notes = await call.client.session(given.session)
    await session.restart()
    told = f"The session {session.id} was restarted: its variables are gone, its files stay."
    return contents.said("\n".join([*notes, told]))


async def close_session(call: Call, given: args.CloseSession) -> CallToolResult:
    session = call.client.get(given.session)
    await session.close()
    return contents.said(f"The session {session.id} is closed; all in it is gone.")


async def attach_notebook(call: Call, given: args.AttachNotebook) -> CallToolResult:
    session = await call.client.attach(given.id)
    output = contents.of_session(session, is_default=False)
    return contents.said(
        f"The notebook is there as session {session.id}. What runs in it shares the variables "
        "of the person who works there, and shows in their notebook. Closing it leaves the "
        "notebook as it is.",
        output,
    )


# --- the table ------------------------------------------------------------------------

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
CHANGES = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)
# Only what is in the sandbox can be lost, but that may be the work of an hour.
RUNS = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)


class Entry(NamedTuple):
    """One tool. `output` describes its structured result."""

    title: str
    description: str
    arguments: type[args.Arguments]
    do: Callable[[Call, Any], Awaitable[CallToolResult]]
    annotations: ToolAnnotations
    output: type[BaseModel] | None = None


TOOLS: dict[str, Entry] = {
    "run_code": Entry(
        "Run code in a sandbox",
        "Run code in an isolated sandbox without network access. Variables, imports and files "
        "stay from call to call. The value of the last expression is shown, and so are pictures: "
        "matplotlib figures, and picture files that the code saves. Output that is too long is "
        "cut in its middle and kept whole in a file. Cancelling stops the code and keeps the "
        "variables. Code that fails gives ok=false and its traceback.",
        args.RunCode,
        run_code,
        RUNS,
        contents.RunOutput,
    ),
    "run_command": Entry(
        "Run a shell command in a sandbox",
        "Run a shell command in the working directory of a session. It shares files with the "
        "code, not variables; each command has a shell of its own. exit_code is the command's.",
        args.RunCommand,
        run_command,
        RUNS,
        contents.RunOutput,
    ),
    "list_files": Entry(
        "List files",
        "List the files of a session's working directory.",
        args.OfSession,
        list_files,
        READS,
        contents.Listing,
    ),
    "read_file": Entry(
        "Read a file",
        "Read a file of the working directory: a picture as a picture, text as text, other "
        "bytes in base64. offset and limit, in bytes, choose a part; without them text is given "
        "up to 16,000 bytes.",
        args.ReadFile,
        read_file,
        READS,
    ),
    "write_file": Entry(
        "Write a file",
        "Write a file into the working directory, replacing one of that name; directories on "
        "its way are made.",
        args.WriteFile,
        write_file,
        CHANGES,
    ),
    "remove_file": Entry(
        "Remove a file",
        "Remove a file of the working directory.",
        args.RemoveFile,
        remove_file,
        CHANGES,
    ),
    "create_session": Entry(
        "Create a session",
        "Make another session: a sandbox with variables and files of its own. Not needed for "
        "ordinary work: every tool has your default session when none is named.",
        args.CreateSession,
        create_session,
        ADDS,
        contents.SessionOutput,
    ),
    "list_sessions": Entry(
        "List sessions",
        "List your sessions. Those of other clients are not among them.",
        args.Nothing,
        list_sessions,
        READS,
        contents.SessionsOutput,
    ),
    "session_info": Entry(
        "Describe a session",
        "What is known of a session: language, what isolates it, state, runs, times.",
        args.OfSession,
        session_info,
        READS,
        contents.SessionOutput,
    ),
    "restart_session": Entry(
        "Restart a session",
        "Lose all variables of a session, and keep its files.",
        args.OfSession,
        restart_session,
        RUNS,
    ),
    "close_session": Entry(
        "Close a session",
        "Destroy a session with its variables and files.",
        args.CloseSession,
        close_session,
        RUNS,
    ),
    "attach_notebook": Entry(
        "Share a live notebook",
        "Work in the live session of a sandbox notebook that the user shares, by the id that "
        "they give you. You and the person share variables and files.",
        args.AttachNotebook,
        attach_notebook,
        ADDS,
        contents.SessionOutput,
    ),
}


def described() -> list[Tool]:
    """The tools as a client lists them."""
    return [
        Tool(
            name=name,
            title=entry.title,
            description=entry.description,
            input_schema=args.schema_of(entry.arguments),
            output_schema=args.schema_of(entry.output) if entry.output else None,
            annotations=entry.annotations,
        )
        for name, entry in TOOLS.items()
    ]
