"""What runs user code inside the sandbox: one runner a language, children of the supervisor.

Rule 1: standard library only, Python 3.8 or newer; a language's own tools when the guest has them.
Rule 2: a runner shares its process with user code, which can make it say anything. Nobody
outside relies on what it says for anything but that user's own output.
"""
