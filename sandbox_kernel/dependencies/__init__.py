"""Packages that a session asks for: what may be asked, where they lie, how they get there.

What is asked for, and where it lies:
    requirements   texts -> requirements, or one sentence why not; pure
    policy         who may ask for which; pure
    notebooks      what a notebook's metadata ask for
    keys           a set of requirements -> the name of what was installed for it; pure
    layers         what a guest must be told to find a layer's packages; pure
    store          which layers there are on this machine, who uses them, which may go
    records        what is known of a layer, and how that is written down
    unfinished     layers in the making, and those that have to be removed yet
    cache          where all of it is, and whether nobody else can change it there
    shared_files   files that several processes keep at once, and lock
    sealing        the last look at a layer's files, and their removal
    manager        finds or builds what is asked for; start here

How it gets there:
    builder        one sandbox, one installation
    transfer       the conversation with the installer in there
    receiver       makes files of the layer that it hands over
    relay          asks the package index for what the installer wants
    admission      what may be asked of it: every decision of the relay's; pure
    directories    indexes that are directories of this host
    indexes        the host's settings of each index; `pip_settings`, `npm_settings` and
                   `apt_settings` read those that have many
    sayings        what installers print, less what means nothing to a reader; pure
    failures       why an installation failed, in sentences; pure

Rule 1: nothing of a package runs on the host, is imported or unpacked by it.
Rule 2: only a builder writes a layer, once; afterwards it is removed or stays as it is.
Rule 3: a guest is told the names of its own layers, and cannot find others (see `store`).

Imports nothing by itself: a kernel whose notebook asks for no packages pays nothing.
"""
