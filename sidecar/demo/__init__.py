"""`sidecar demo`: the same traffic to faulty services, straight and through a sidecar.

services   the services, as processes of their own
scenario   what goes wrong when, the traffic, the sidecar's YAML
processes  starting, killing and reaping children
stage      services and sidecar together
clients    the clients, which know nothing of each other
traffic    calls at their time, and what became of them
admin      what the sidecar tells about itself
report     the comparison, and whether the sidecar did better
live       the table while it runs; `closing` what is printed at the end
run        the order of events
"""


def main(seconds: float | None, keep: bool, as_json: bool) -> int:
    """Run the demo for so many seconds of traffic; the exit code.

    0 when the sidecar did better, else 1 with the reason on standard error.
    """
    # Only now: the services are modules of this package, and need none of it.
    from sidecar.demo.run import run

    return run(seconds, keep, as_json)
