"""`sidecar`, which is `python -m sidecar`. Nothing is imported here that takes time."""

import sys


def main() -> None:
    """The command; a process that is to run hears no signal before it can heed it."""
    if sys.argv[1:2] == ["run"]:
        from sidecar.lifecycle import signals

        signals.hold()
    from sidecar.cli import main as command

    command()


if __name__ == "__main__":
    main()
