"""Runs any native Jupyter kernel inside the guest, and translates it into our frames.

    supervisor ⇄ (frames) ⇄ bridge ⇄ (Jupyter's protocol, unix sockets) ⇄ the kernel

`main` puts it together; `arguments` says what it is started with; `kernel_process` starts
and ends the kernel; `zmtp` and `wire` are the two layers of Jupyter's protocol, pure;
`connection` is the four sockets; `translation` says what a message is in our frames, pure;
`server` answers the supervisor.

Rule: the kernel is as hostile as what its cells run. It shares our sandbox, so nothing
here guards the boundary; but it must neither hang the bridge nor make it hold without end.
"""
