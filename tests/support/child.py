"""`python -m tests.support.child MODULE ARG...`: runs a module that dies with its parent.

A test run that is killed must leave no server behind. On Linux the kernel sees
to it (prctl(2), PR_SET_PDEATHSIG); elsewhere the fixture's clean-up has to do.
The signal is tied to the *thread* that started us, so start children from one
that lives on, not from an executor.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask for SIGKILL at the parent's death; exits at once when it is dead already."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    die_with_parent(int(os.environ.pop("TEST_PARENT_PID", os.getppid())))
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
