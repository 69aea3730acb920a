"""Python packages and an index of them, made by a test: no network, known contents.

`sdist` takes code that runs when pip builds it, which is what strangers' packages do; what it
leaves in the dictionary `found` is in the layer afterwards, as `<name>_found.json`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_BACKEND = """
import base64, hashlib, json, os, zipfile
NAME, VERSION = {name!r}, {version!r}
METADATA = "Metadata-Version: 2.1\\nName: %s\\nVersion: %s\\n" % (NAME, VERSION)

def probe():
    found = {{}}
{code}
    return found

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    folder = "%s-%s.dist-info" % (NAME, VERSION)
    os.mkdir(os.path.join(directory, folder))
    with open(os.path.join(directory, folder, "METADATA"), "w") as file:
        file.write(METADATA)
    return folder

def build_wheel(directory, config_settings=None, metadata_directory=None):
    folder = "%s-%s.dist-info" % (NAME, VERSION)
    files = {{
        NAME + ".py": "VALUE = 1\\n",
        NAME + "_found.json": json.dumps(probe()),
        folder + "/METADATA": METADATA,
        folder + "/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    files[folder + "/RECORD"] = "".join(name + ",,\\n" for name in files)
    wheel = "%s-%s-py3-none-any.whl" % (NAME, VERSION)
    with zipfile.ZipFile(os.path.join(directory, wheel), "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel
"""


def sdist(directory: Path, name: str, code: str, version: str = "1.0") -> Path:
    """A source package whose build runs `code`; it may put findings into `found`."""
    indented = "".join(f"    {line}\n" for line in code.splitlines())
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "own_backend"\n'
        'backend-path = ["."]\n',
        "own_backend.py": _BACKEND.format(name=name, version=version, code=indented),
    }
    path = directory / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file_name, text in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{file_name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def wheel(
    directory: Path,
    name: str,
    files: dict[str, str] | None = None,
    *,
    version: str = "1.0",
    requires: tuple[str, ...] = (),
    scripts: str = "",
) -> Path:
    """A built package with `files`."""
    folder = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {text}\n" for text in requires)
    contents = {
        **(files or {f"{name}.py": "VALUE = 1\n"}),
        f"{folder}/METADATA": metadata,
        f"{folder}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if scripts:
        contents[f"{folder}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n"
    contents[f"{folder}/RECORD"] = "".join(_record(*item) for item in contents.items())
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file_name, text in contents.items():
            archive.writestr(file_name, text)
    return path


def _record(name: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
    return f"{name},sha256={digest.decode()},{len(text.encode())}\n"


class Server:
    """An index over HTTP on this host, and everything that was asked of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    def put(self, path: str, content: bytes | str, kind: str = "text/html", **headers: str) -> None:
        body = content.encode() if isinstance(content, str) else content
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = (200, {"Content-Type": kind, **named}, body)

    def redirect(self, path: str, location: str) -> None:
        self.answers[path] = (302, {"Location": location}, b"")

    def put_package(self, path: Path) -> None:
        """A file and its page, as PEP 503 has it."""
        name = path.name.split("-")[0].replace("_", "-")
        link = f'<a href="{self.address}/files/{path.name}">{path.name}</a>'
        self.put(f"/simple/{name}/", f"<!DOCTYPE html><html><body>{link}</body></html>")
        self.put(f"/files/{path.name}", path.read_bytes(), "application/octet-stream")

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _ in self.asked]


@contextmanager
def serving() -> Iterator[Server]:
    """A `Server` on a free port of the host's loopback."""
    servers: list[Server] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server = servers[0]
            server.asked.append((self.command, self.path, dict(self.headers)))
            status, headers, body = server.answers.get(self.path, (404, {}, b"nothing here"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, *_arguments: Any) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    servers.append(Server(f"http://127.0.0.1:{listener.server_address[1]}"))
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield servers[0]
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
