"""Files of a client's workspaces as resources: `sandbox://SESSION/NAME`.

A resource is the file's bytes, for programs. What a model reads goes through `read_file`,
which bounds it and marks it as data.
"""

from __future__ import annotations

import itertools
from urllib.parse import unquote

from mcp.types import (
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
)

from sandbox_kernel.ai.mcp.clients import Client
from sandbox_kernel.ai.mcp.contents import file_of, raw_contents
from sandbox_kernel.errors import RequestRefused, SandboxKernelError

SCHEME = "sandbox://"
MAX_LISTED = 500
# A resource is sent in one message, and base64 adds a third.
MAX_BYTES = 10 * 1024**2


async def listed(client: Client) -> ListResourcesResult:
    """Files of all sessions of this client; those that do not answer are left out."""
    resources: list[Resource] = []
    for session in client.sessions():
        try:
            entries = await session.files.list()
        except SandboxKernelError:
            continue
        files = (file_of(session.id, entry.name, entry.size) for entry in entries)
        for file in itertools.islice(files, MAX_LISTED - len(resources)):
            resources.append(Resource(name=file.name, uri=file.uri, size=file.size))
    return ListResourcesResult(resources=resources)


def templates() -> ListResourceTemplatesResult:
    return ListResourceTemplatesResult(
        resource_templates=[
            ResourceTemplate(
                name="file",
                title="A file of a session's working directory",
                uri_template=f"{SCHEME}{{session}}/{{+name}}",
            )
        ]
    )


async def read(client: Client, uri: str) -> ReadResourceResult:
    """
    Raises:
        NoSuchSession: this client has none with that id.
        RequestRefused: there is no such file, or it is no uri of ours.
        FileTooLarge: it is over `MAX_BYTES`.
    """
    session_id, slash, quoted = uri.removeprefix(SCHEME).partition("/")
    if not uri.startswith(SCHEME) or not slash or not quoted:
        raise RequestRefused(f"A resource is called {SCHEME}SESSION/NAME.")
    session = client.get(session_id)
    name = unquote(quoted, errors="surrogateescape")
    content = await session.files.read(name, limit_bytes=MAX_BYTES)
    return ReadResourceResult(contents=[raw_contents(uri, content)])
