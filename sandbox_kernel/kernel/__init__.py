"""The Jupyter adapter: our own protocol server, on pyzmq and asyncio.

    __main__     what a kernelspec starts: argv, settings, sandbox, server
    argv         the command line          connection   the connection file
    wire         message <-> parts, signed (pure)       sockets  the five sockets
    server       who gets which request, in which order; always a reply
    execution    execute requests          answers      contents of replies (pure)
    iopub        events -> broadcasts      stdin        input() -> the client that asked
    magics       `%sandbox` lines          warming      what later kernels start with
    ask          `%%ask` lines             talk         what a model says and runs for them
    shown_words  a model's words and code, as displays
    drivers      programs of this user that share the session (see `sandbox_kernel.sharing`)
    history · comms · usage · watch · log

Rule 1: the host alone speaks Jupyter. No port, key or connection file goes inside.
Rule 2: what a guest answers is shaped by `answers` before a client sees it.
Rule 3: importing this package imports nothing else of it: start-up time is a feature.
"""
