"""What runs inside the sandbox: the supervisor and its runners.

Rule 1: standard library only, Python 3.8 or newer.
Rule 2: nothing here is trusted by the host. The host reads what the supervisor
writes as bytes from a hostile program, and would survive a forged one.
Rule 3: the supervisor never runs user code and does not trust its runner.
"""
