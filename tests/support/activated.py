"""`python -m tests.support.activated run -c FILE`: the sidecar as systemd starts it, with the
listening sockets of $ACTIVATE (`name=host:port ...`) from descriptor 3 on."""

import os
import runpy
import socket
import sys

if __name__ == "__main__":
    wanted = [pair.partition("=") for pair in os.environ.pop("ACTIVATE").split()]
    sockets = []
    for _, _, address in wanted:
        host, _, port = address.rpartition(":")
        sockets.append(socket.create_server((host, int(port))))
    # First out of the way of the numbers that they are to have.
    kept = [os.dup2(sock.fileno(), 100 + n) for n, sock in enumerate(sockets)]
    for sock in sockets:
        sock.detach()
    for number, descriptor in enumerate(kept, 3):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ["LISTEN_FDS"] = str(len(kept))
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _, _ in wanted)
    sys.argv[0] = "sidecar"
    runpy.run_module("sidecar", run_name="__main__", alter_sys=True)
