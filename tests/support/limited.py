"""`python -m tests.support.limited run -c FILE`: the sidecar with few files, $TEST_OPEN_FILES."""

import os
import resource
import runpy
import sys

if __name__ == "__main__":
    limit = int(os.environ["TEST_OPEN_FILES"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    sys.argv[0] = "sidecar"
    runpy.run_module("sidecar", run_name="__main__", alter_sys=True)
