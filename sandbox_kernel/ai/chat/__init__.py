"""`sandbox-kernel chat`: a person, a model and a sandbox at one terminal.

    lines      what was typed -> what it is, pure
    keyboard   where lines come from: an editor with history, `input()`, or a pipe
    screen     what is seen
    pictures   those that code showed, under names by which they can be kept
    commands   what begins with `/`
    shell      one line after another

Rule 1: what a model or the guest says is cleaned before a terminal sees it, and is never
        taken for markup, a command or an answer of the person's.
Rule 2: only what the person types reaches the host: its files by `/files` and `/run FILE`.
Rule 3: results go to stdout, all else to stderr.
"""
