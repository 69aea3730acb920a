"""What is measured: one function a metric, from a contender to figures by name.

Every function starts its own kernel and ends it. Times are seconds.

To add a metric: a function here, its name in `METRICS`, its promise in `promises`.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from sandbox_kernel.bench.client import (
    Contender,
    Kernel,
    KernelSilent,
    Message,
    fresh_session,
    started,
)
from sandbox_kernel.errors import SandboxKernelError

Figures = dict[str, float]
Metric = Callable[[Contender], Figures]

ROUND_TRIPS = 200
LINES = 10_000
VOLUME_BYTES = 50 * 1024 * 1024
STALLED_MESSAGES = 20_000
STALL_S = 4.0
# A client that stalls has stopped losing when nothing has come for so long.
_QUIET_S = 2.0


def kernel_info(side: Contender) -> Figures:
    """From just before the process is started to the reply to kernel_info_request."""
    with started(side) as kernel:
        request = kernel.send(kernel.shell, "kernel_info_request", {})
        kernel.reply(kernel.shell, request)
        return {"seconds": time.perf_counter() - kernel.started}


def first_result(side: Contender) -> Figures:
    """From just before the process is started to the value of `1+1`, asked after kernel_info."""
    with started(side) as kernel:
        kernel.reply(kernel.shell, kernel.send(kernel.shell, "kernel_info_request", {}))
        # In the reply, since a subscription to iopub may not be known yet.
        request = kernel.execute("1+1", user_expressions={"sum": "1+1"})
        reply = kernel.reply(kernel.shell, request)
        seconds = time.perf_counter() - kernel.started
        _require(reply["content"]["user_expressions"]["sum"]["data"]["text/plain"] == "2", kernel)
        return {"seconds": seconds}


def round_trip(side: Contender) -> Figures:
    """Median of many: from sending `pass` to its reply and idle."""
    with fresh_session(side) as kernel:
        times = [kernel.run("pass") for _ in range(ROUND_TRIPS)]
        return {"seconds": statistics.median(times)}


def lines(side: Contender) -> Figures:
    """Many short prints."""
    texts: list[str] = []
    with fresh_session(side) as kernel:
        seconds = kernel.run(f"for i in range({LINES}): print(i)", _collector(texts))
        _require("".join(texts).split() == [str(i) for i in range(LINES)], kernel)
    return {"seconds": seconds, "messages": len(texts)}


def volume(side: Contender) -> Figures:
    """A lot of output, to a client that asked for all of it."""
    code = (
        "import sys\nline = 'x' * 1023 + '\\n'\n"
        f"for _ in range({VOLUME_BYTES // 1024}): sys.stdout.write(line)"
    )
    texts: list[str] = []
    with fresh_session(side, SANDBOX_KERNEL_OUTPUT="all") as kernel:
        seconds = kernel.run(code, _collector(texts))
    return {"seconds": seconds, "missing_bytes": VOLUME_BYTES - sum(map(len, texts))}


def chart(side: Contender) -> Figures:
    """The first chart of a notebook that was opened just now."""
    kinds: list[str] = []
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"
    with fresh_session(side) as kernel:
        seconds = kernel.run(code, lambda message: kinds.extend(message["content"].get("data", [])))
        _require("image/png" in kinds, kernel)
    return {"seconds": seconds}


def interrupt(side: Contender) -> Figures:
    """From the interrupt of a busy loop to its idle."""
    with fresh_session(side) as kernel:
        request = kernel.execute("print('looping', flush=True)\nwhile True: pass")
        while kernel.receive(kernel.iopub)["msg_type"] != "stream":
            pass
        begun = time.perf_counter()
        kernel.interrupt()
        ended = kernel.wait_idle(request)
        _require(kernel.reply(kernel.shell, request)["content"]["status"] == "error", kernel)
        return {"seconds": ended - begun}


def shutdown(side: Contender) -> Figures:
    """From shutdown_request to the end of the process."""
    with fresh_session(side) as kernel:
        begun = time.perf_counter()
        kernel.send(kernel.control, "shutdown_request", {"restart": False})
        try:
            kernel.process.wait(10)
        except subprocess.TimeoutExpired:
            raise KernelSilent(f"{side.label} did not end within 10 s.") from None
        return {"seconds": time.perf_counter() - begun}


def memory(side: Contender) -> Figures:
    """The kernel's own process on the host, after a cell."""
    with fresh_session(side) as kernel:
        text = Path(f"/proc/{kernel.process.pid}/smaps_rollup").read_text()
        fields = {line.split(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
        return {
            "mebibytes": int(fields["Rss"]) / 1024,
            "proportional_mebibytes": int(fields["Pss"]) / 1024,
        }


def stalled(side: Contender) -> Figures:
    """Messages that a client loses which does not read for a while."""
    code = (
        "from IPython.display import display\n"
        f"for i in range({STALLED_MESSAGES}): display({{'text/plain': str(i)}}, raw=True)"
    )
    limits = {"SANDBOX_KERNEL_OUTPUT": "all", "SANDBOX_KERNEL_DISPLAYS": str(STALLED_MESSAGES + 1)}
    with fresh_session(side, **limits) as kernel:
        request = kernel.execute(code)
        time.sleep(STALL_S)
        seen = _count_displays(kernel, request)
        return {"lost": STALLED_MESSAGES - seen}


def _count_displays(kernel: Kernel, request: str) -> int:
    """Displays of `request` up to its idle, or until it is plain that the idle was lost too."""
    seen = 0

    def count(message: Message) -> None:
        nonlocal seen
        seen += message["msg_type"] == "display_data"

    kernel.reply(kernel.shell, request)
    try:
        while True:
            message = kernel.receive(kernel.iopub, timeout_s=_QUIET_S)
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["content"].get("execution_state") == "idle":
                return seen
            count(message)
    except KernelSilent:
        return seen


def _collector(texts: list[str]) -> Callable[[Message], None]:
    def take(message: Message) -> None:
        if message["msg_type"] == "stream":
            texts.append(message["content"]["text"])

    return take


def _require(is_right: bool, kernel: Kernel) -> None:
    if not is_right:
        raise SandboxKernelError(
            f"{kernel.side.label} did not give what was asked for, so its time means nothing. "
            f"Its log ends with: {kernel.last_words()}"
        )


METRICS: dict[str, Metric] = {
    metric.__name__: metric
    for metric in (
        kernel_info,
        first_result,
        round_trip,
        lines,
        volume,
        chart,
        interrupt,
        shutdown,
        memory,
        stalled,
    )
}
