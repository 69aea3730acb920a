"""Starts ipykernel for the bridge, in place of `python -m ipykernel_launcher`.

ipykernel binds a TCP port for what forked processes print. ZeroMQ looks interfaces up for
that, by a netlink socket, which sandboxes refuse; then it aborts the process. A socket in the
abstract namespace, which nothing outside of the sandbox can reach, does as well.
"""

import os
import sys

# Our own directory: none of its names may stand for a module of the user's.
del sys.path[0]

import zmq  # noqa: E402
from ipykernel import iostream, kernelapp  # noqa: E402
from zmq.eventloop.zmqstream import ZMQStream  # noqa: E402


def _setup_pipe_in(self):  # type: ignore[no-untyped-def]
    self._pipe_uuid = os.urandom(16)
    self._pipe_address = "ipc://@sandbox-" + os.urandom(16).hex()
    pipe = self.socket.context.socket(zmq.PULL)
    pipe.linger = 0
    pipe.bind(self._pipe_address)
    self._pipe_in = ZMQStream(pipe, self.io_loop)
    self._pipe_in.on_recv(self._handle_pipe_msg)


def _setup_pipe_out(self):  # type: ignore[no-untyped-def]
    context = zmq.Context()
    pipe = context.socket(zmq.PUSH)
    pipe.linger = 3000
    pipe.connect(self._pipe_address)
    return context, pipe


if __name__ == "__main__":
    iostream.IOPubThread._setup_pipe_in = _setup_pipe_in  # type: ignore[method-assign]
    iostream.IOPubThread._setup_pipe_out = _setup_pipe_out  # type: ignore[method-assign]
    kernelapp.launch_new_instance()
