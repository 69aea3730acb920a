"""Notebooks through our kernels, as a Jupyter client would: what `sandbox-kernel demo` does.

    jobs        which kernel a notebook gets, and whether this machine can run it
    execution   one notebook: run, and kept as ipynb and html

Imports nothing by itself: `--help` of the command is to be quick.
"""
