"""The YAML of a process's life: with whom it ends, who takes its sockets over."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from sidecar.config.shape import Section, Text
from sidecar.config.units import BadValueError

COMPANIONS = ("pid", "pid_file", "process")
# sockaddr_un(7): sun_path has 108 bytes, the last of them zero.
_LONGEST_PATH = 107


class ExitWith(Section):
    """Whose end is the sidecar's too. Exactly one of pid, pid_file and process."""

    pid: int | None = Field(None, ge=1, description="The process's number.")
    pid_file: Annotated[Text, Field(min_length=1)] | None = Field(
        None, description="A file that holds the process's number; waited for until it is there."
    )
    process: Annotated[Text, Field(min_length=1, max_length=15)] | None = Field(
        None,
        description="The process's name as in /proc/PID/comm, 15 characters at most; waited for until there is one.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> "ExitWith":
        given = [way for way in COMPANIONS if getattr(self, way) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise BadValueError(f"needs exactly one of pid, pid_file and process, not {found}", "")
        return self


def _socket_path(text: str) -> str:
    if not text.startswith("/"):
        raise BadValueError("is no absolute path", "as in /run/sidecar/takeover.sock")
    if len(text.encode()) > _LONGEST_PATH:
        raise BadValueError(f"is longer than {_LONGEST_PATH} bytes, which is all that a socket's path may have", "")
    return text


SocketPath = Annotated[Text, AfterValidator(_socket_path)]
