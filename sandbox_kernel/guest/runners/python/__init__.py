"""The Python runner. `__main__` starts it, `server` answers requests, a shell runs the cells.

    __main__ ── main ── server ── ipython_shell | plain_shell ── base_shell
                          │           │
        event_loop · interrupts   streams · cells · channel

Rule 1: user code lives in the same process and may break any of this, for itself alone.
Rule 2: imports are on the way to a kernel's first result. Each one here is measured.
Rule 3: nothing of ours is visible to user code but what a notebook expects: not on
`sys.path`, not in `__main__`.
"""
