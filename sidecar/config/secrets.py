"""What a secret looks like, and how text is shown without one.

For whatever leaves the process: /api/config, errors, `sidecar explain`. Imports nothing
of ours.
"""

import re
from collections.abc import Iterable, Sequence

MASK = "***"
# Sections whose keys are names that the operator gave.
NAMED = ("clusters", "listeners")

_NAME = re.compile(
    r"token|passw|passphrase|pwd|secret|credential|authori[sz]ation|cookie|private|signature|hmac|jwt|bearer"
    r"|(?:api|access|signing|encryption|shared)[-_]?key|(?<![a-z])auth(?![a-z])",
    re.IGNORECASE,
)
# Of variables, which are named for what they hold, these say enough too.
_VARIABLE = re.compile(r"(?:^|_)(?:KEY|PASS|AUTH|DSN|SALT|CRED|CREDS|PIN|SIG)(?:_|$)", re.IGNORECASE)

# RFC 9110 11.4: a scheme and what proves it.
_CREDENTIALS = re.compile(r"\b(bearer|basic|digest|negotiate)\s+[A-Za-z0-9._~+/=-]{4,}", re.IGNORECASE)
# What cannot stand in user information.
_BEFORE_USERINFO = re.compile(r"[\s/?#'\"]")
# Shorter than this, what a value and a sentence have in common says nothing.
_RUN = 4
# From this length on a value is looked for in sentences about other things.
_LONG = 8


def sounds_secret(name: str) -> bool:
    """Whether what stands under this key or header name is not to be shown. Where a
    secret is kept is none."""
    return _NAME.search(name) is not None and not name.endswith("_file")


def path_sounds_secret(path: Sequence[str | int]) -> bool:
    """The same for a path of keys; a cluster or listener may be called what it likes."""
    keys = path[2:] if path and path[0] in NAMED else path
    return any(isinstance(key, str) and sounds_secret(key) for key in keys)


def variable_sounds_secret(name: str) -> bool:
    """Whether an environment variable of this name is not to be shown."""
    return sounds_secret(name) or _VARIABLE.search(name) is not None


def without_credentials(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without user names and passwords of URLs, credentials, and `secrets`."""
    for secret in secrets:
        if len(secret) >= _RUN or secret == text:
            text = text.replace(secret, MASK)
    if "@" in text:
        *parts, last = text.split("@")
        text = "@".join([*map(_without_userinfo, parts), last])
    return _CREDENTIALS.sub(rf"\1 {MASK}", text)


def _without_userinfo(before: str) -> str:
    """The text before an @ without what may be a user's name and password (RFC 3986
    3.2.1): all of it behind a scheme, without one when there is a colon in it."""
    # From the end, so that a long text takes linear time.
    backwards = before[::-1]
    end = _BEFORE_USERINFO.search(backwards)
    at = len(before) - (end.start() if end else len(before))
    userinfo = before[at:]
    is_one = ":" in userinfo[1:] or (bool(userinfo) and before[:at].endswith("://"))
    return before[:at] + MASK if is_one else before


def tells(text: str, value: str) -> bool:
    """Whether a sentence holds a value, or a part of it that is worth something,
    however it was quoted, cut or changed in case."""
    text, value = text.casefold(), value.casefold()
    if len(value) < _RUN:
        return bool(value) and value in text
    return any(text[at : at + _RUN] in value for at in range(len(text) - _RUN + 1))


class Filled:
    """The variables that were filled into a text, with their values."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.secrets: set[str] = set()

    def add(self, name: str, value: str, *, free: bool) -> None:
        """One more; `free` when it stands where any text may: there it is likely a secret."""
        self.values[name] = value
        if value and (free or variable_sounds_secret(name)):
            self.secrets.add(value)

    def unfilled(self, text: str) -> str:
        """A sentence about something else, with variables in place of their values."""
        for name, value in self.values.items():
            if len(value) >= _LONG:
                text = text.replace(value, f"${{{name}}}")
        return text
