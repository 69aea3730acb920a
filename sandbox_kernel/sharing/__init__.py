"""One session, two drivers: a program attaches to the live session of a notebook.

A person works in a notebook; an engine of the same user attaches to its session by its id,
and both share variables and files. The sandbox stays the notebook's: what the program runs
takes its turn with the person's cells, is shown to every client and is in the history, and
nothing that it may do is more than the notebook may.

    places        the private directory where sessions are found, and who may come in
    wire          messages <-> bytes, bounded (pure)
    values        events and outcomes <-> JSON (pure)
    server        the kernel's end: a socket, and what a driver may ask for
    client        the program's end: `connect(session_id)` gives a `SharedSeat`
    greeting      what a kernel says first, checked
    conversation  requests to a kernel, their answers, and the events between
    listing       which sessions are live, and the sockets of those that are dead

Rule 1: only the same user comes in: the directory is theirs alone (0700), so is the socket
        (0600), and the peer's user is asked of Linux. A guest can see neither.
Rule 2: both ends are host processes and trusted; what passes is bounded and checked all the
        same, since one of them may be of another version, or wrong.
Rule 3: the notebook goes on whatever its driver does: a driver that goes away, stops
        reading or sends nonsense is dropped, and its cells are interrupted.
Rule 4: importing this package imports nothing else of it: a kernel's start-up pays.
"""
