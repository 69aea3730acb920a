"""Runs each cell as one command: files persist, variables don't.

`words` is what is said about that; the host's `ShellGuest`, which does the same in images
without Python 3, says it in the same words.
"""
