"""Regular expressions over bytes that others chose. The only importer of re2.

RE2 takes a time that grows with the text alone (R. Cox, "Regular Expression Matching in the Wild",
2010). Python's `re` tries again: `/(a+)+` against thirty letters that do not match, or `/.*/.*/.*x`
against a path of 4,000 slashes, would hold the whole process for many seconds.
"""

from collections.abc import Callable
from typing import Final

# What the machine of one expression may keep, in bytes: with less it is slower, and as right.
_MEMORY: Final = 1024 * 1024


def whole(pattern: str) -> Callable[[bytes], bool]:
    """Whether the whole of a text matches. A character of the pattern stands for its bytes in
    UTF-8, `.` for any byte but a newline. ValueError with RE2's words when it is no expression."""
    import re2  # 3 MiB, for whoever has one

    options = re2.Options()
    options.log_errors = False
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _MEMORY
    try:
        fullmatch = re2.compile(pattern.encode(), options).fullmatch
    except re2.error as error:
        reason = error.args[0] if error.args else error
        raise ValueError(reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)) from None
    return lambda text: fullmatch(text) is not None
