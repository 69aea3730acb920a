"""A Jupyter kernel whose cells are Python that says what the kernel sends, right or wrong.

In a cell there are `iopub(type, content)`, `reply(**content)`, `idle()`, `ask(prompt)`,
`request`, and the sockets. A cell that calls neither `reply` nor `idle` gets both at its end;
`is_silent = True` stops that.
"""

import hashlib
import hmac
import json
import os
import signal
import sys
import time
import uuid

import zmq

info = json.load(open(sys.argv[1]))  # noqa: SIM115
context = zmq.Context()
key = info["key"].encode()


def bind(kind, name):
    socket = context.socket(kind)
    # A publisher drops what its reader is too late for. Four times the usual: who pauses us in time
    # loses nothing, also when the machine stands still in between.
    socket.sndhwm = 4000
    separator = "-" if info["transport"] == "ipc" else ":"
    socket.bind(f"{info['transport']}://{info['ip']}{separator}{info[name + '_port']}")
    return socket


shell = bind(zmq.ROUTER, "shell")
control = bind(zmq.ROUTER, "control")
stdin = bind(zmq.ROUTER, "stdin")
publisher = bind(zmq.PUB, "iopub")


def pack(kind, content, parent, metadata=None, signing_key=key):
    header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "scripted"}
    raw = [
        part if isinstance(part, bytes) else json.dumps(part).encode()
        for part in (header, parent, metadata or {}, content)
    ]
    signature = hmac.new(signing_key, b"".join(raw), hashlib.sha256).hexdigest().encode()
    return [b"<IDS|MSG>", signature, *raw]


def receive(socket):
    parts = socket.recv_multipart()
    start = parts.index(b"<IDS|MSG>")
    fields = [json.loads(part) for part in parts[start + 2 : start + 6]]
    names = ("header", "parent", "metadata", "content")
    return {
        "identities": parts[:start],
        "buffers": parts[start + 6 :],
        **dict(zip(names, fields, strict=True)),
    }


class Request:
    def __init__(self, message):
        self.message, self.content = message, message["content"]
        self.has_replied = self.has_idled = False

    def iopub(self, kind, content, parent=None, buffers=(), **options):
        parent = self.message["header"] if parent is None else parent
        publisher.send_multipart([b"", *pack(kind, content, parent, **options), *buffers])

    def status(self, state):
        self.iopub("status", {"execution_state": state})

    def idle(self):
        self.has_idled = True
        self.status("idle")

    def reply(self, kind="", **content):
        self.has_replied = True
        kind = kind or self.message["header"]["msg_type"].replace("_request", "_reply")
        content.setdefault("status", "ok")
        shell.send_multipart(
            [*self.message["identities"], *pack(kind, content, self.message["header"])]
        )

    def ask(self, prompt, password=False):
        content = {"prompt": prompt, "password": password}
        stdin.send_multipart(
            [*self.message["identities"], *pack("input_request", content, self.message["header"])]
        )
        return receive(stdin)["content"]["value"]


def execute(request):
    names = {
        **{name: getattr(request, name) for name in ("iopub", "reply", "idle", "ask", "status")},
        "request": request,
        "os": os,
        "time": time,
        "control": control,
        "sys": sys,
        "receive": receive,
        "signal": signal,
        "first": seen,
    }
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        exec(request.content["code"], names)
    except KeyboardInterrupt:
        request.reply(status="abort")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if names.get("is_silent"):
        return
    if not request.has_replied:
        request.reply()
    if not request.has_idled:
        request.idle()


seen = []
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as IPython's, which hears it in cells only
while True:
    request = Request(receive(shell))
    kind = request.message["header"]["msg_type"]
    seen.append(request)
    request.status("busy")
    if kind == "execute_request":
        execute(request)
        continue
    if kind == "kernel_info_request":
        language = {"name": "scripted", "version": "1.2.3"}
        request.reply(implementation="scripted", banner="Hello.", language_info=language)
    elif kind == "complete_request":
        request.reply(**json.loads(request.content["code"]))
    elif kind == "inspect_request":
        request.reply(found=True, data={"text/plain": str(request.content["detail_level"])})
    elif kind == "is_complete_request":
        request.reply(status=request.content["code"])
    elif kind == "comm_msg":
        sizes = [len(buffer) for buffer in request.message["buffers"]]
        request.iopub("stream", {"name": "stdout", "text": f"{request.content} {sizes}"})
    request.idle()
