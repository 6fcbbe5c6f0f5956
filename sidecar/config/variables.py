"""`${VAR}` and `${VAR:-default}` inside YAML scalars; `$${` is a literal `${`."""

import re
from collections.abc import Mapping

from sidecar.config.units import BadValueError, shown

# No brace inside: a text full of `${` is read in linear time.
_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")
_ON_ONE_LINE = re.compile(r"\$\{[^{}\n]*\}")
# ASCII's punctuation and blank, moved into Unicode's private use area. Backslash and
# quotes stay: they belong to the quoted scalar around the reference.
_SHIELD = {code: 0xE000 + code for code in range(0x20, 0x7F) if not chr(code).isalnum() and chr(code) not in "\\\"'"}
_UNSHIELD = {shielded: code for code, shielded in _SHIELD.items()}
_PRIVATE = re.compile("[\ue020-\ue07e]")
_BODY = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def substitute(text: str, env: Mapping[str, str]) -> str:
    """The text with its variables filled in.

    As in a shell, `:-` stands in for a variable that is unset or empty. BadValueError
    for a variable that is unset and has no default, or for a broken reference.
    What is filled in is not looked at again.
    """
    if "${" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        body = _BODY.fullmatch(match[1])
        if body is None or not match[2]:
            raise BadValueError(
                f"{shown(match[0])} is no variable", "write ${NAME} or ${NAME:-default}, and $${ for a plain ${"
            )
        name, default = body[1], body[2]
        found = env.get(name)
        if default is not None:
            return found or default
        if found is None:
            raise BadValueError(f"variable {name} is not set", f"set it, or write ${{{name}:-default}}")
        return found

    return _REFERENCE.sub(value, text)


def shield(text: str) -> str:
    """YAML text in which no reference holds a character that YAML gives a meaning.

    Without it `{address: ${HOST}:80}` is a syntax error, and a plain scalar ends
    at the `, ` or ` #` of a default. Line and column of everything stay.
    """
    if "${" not in text or _PRIVATE.search(text):
        return text
    return _ON_ONE_LINE.sub(lambda match: match[0].translate(_SHIELD), text)


def unshield(text: str) -> str:
    """A scalar of shielded YAML as it was written."""
    return text.translate(_UNSHIELD) if _PRIVATE.search(text) else text
