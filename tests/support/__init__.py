"""What several test folders share: a kernel with a client, a raw wire client, a leak census.

Rule 1: nothing here knows the kernel's insides; it sees processes, sockets and files.
Rule 2: no fixed sleeps: `until` polls with a deadline, and says what it waited for.
Rule 3: only processes that a helper started are ended, by their id.
"""
