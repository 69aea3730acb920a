"""Packages that a session asks for: what may be asked, where they lie, how they get there.

    requirements   texts -> requirements, or one sentence why not; pure
    policy         who may ask for which; pure
    keys           a set of requirements -> the name of what was installed for it; pure
    layers         what a guest must be told to find a layer's packages; pure
    store          records of what is installed, on this machine
    manager        finds or builds what is asked for; `builder` does the building
    notebooks      what a notebook's metadata ask for

Rule 1: nothing of a package runs on the host, is imported or unpacked by it.
Rule 2: only a builder writes a layer, once; afterwards it is removed or stays as it is.
Rule 3: a guest is told the names of its own layers, and cannot find others (see `store`).

Imports nothing by itself: a kernel whose notebook asks for no packages pays nothing.
"""
