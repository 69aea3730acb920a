"""Answers the supervisor where there is no kernel: every cell is told why, and what to do."""

import os

from ..framing import Kind
from ..runners.python.channel import Channel, read_json
from . import translation
from .arguments import Command


def serve_nothing(channel: Channel, command: Command, problem: str) -> None:
    """Serve until the supervisor is gone."""
    text = ("%s %s" % (problem, command.remedy)).strip()
    error = translation.failure("KernelMissing", text)
    banner = "%s: %s" % (command.display_name, text)
    info = {"implementation": "missing", "version": "", "ipython": None, "banner": banner}
    channel.send(Kind.RUNNER_READY, 0, info)
    while True:
        request = channel.receive()
        if request is None:
            return
        for fd in request.descriptors:
            os.close(fd)
        frame, meta = request.frame, read_json(request.frame)
        if frame.kind == Kind.EXECUTE:
            channel.send(Kind.ERROR, frame.cell, error)
            asked = meta.get("user_expressions")
            content = translation.execute_reply({"status": "error"}, asked)
        else:
            content = translation.reply(frame.kind, {"status": "error"}, meta)
        channel.send(Kind.REPLY, frame.cell, content)
