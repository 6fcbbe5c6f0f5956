"""`${VAR}` and `${VAR:-default}` inside YAML scalars; `$${` is a literal `${`."""

import re
from collections.abc import Callable, Mapping

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


def substitute(
    text: str, env: Mapping[str, str], found_one: Callable[[str, str], None] = lambda name, value: None
) -> str:
    """The text with its variables filled in; `found_one(name, value)` hears of each that is set.

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
            named = match[0].partition(":-")[0]  # without the default: it may be a secret
            raise BadValueError(
                f"{shown(named)} is no variable", "write ${NAME} or ${NAME:-default}, and $${ for a plain ${"
            )
        name, default = body[1], body[2]
        found = env.get(name)
        if default is not None and not found:
            return default
        if found is None:
            raise BadValueError(f"variable {name} is not set", f"set it, or write ${{{name}:-default}}")
        if not _is_text(found):
            raise BadValueError(f"variable {name} is not UTF-8")
        found_one(name, found)
        return found

    return _REFERENCE.sub(value, text)


def _is_text(value: str) -> bool:
    """Bytes of the environment that are not UTF-8 are surrogates, which cannot be sent."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


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
