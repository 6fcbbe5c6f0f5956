"""What the tests of the configuration share."""

import textwrap
from collections.abc import Mapping

from sidecar.config.errors import ConfigError, ConfigErrors
from sidecar.config.load import load_text
from sidecar.config.schema import Spec


def load(text: str, env: Mapping[str, str] | None = None) -> Spec:
    """The Spec of an indented text."""
    return load_text(textwrap.dedent(text), "f.yaml", env or {})


def errors_of(text: str, env: Mapping[str, str] | None = None) -> list[ConfigError]:
    """The errors of an indented text; fails when it has none."""
    try:
        load(text, env)
    except ConfigErrors as found:
        return found.errors
    raise AssertionError("the text was accepted")


def lines_of(text: str, env: Mapping[str, str] | None = None) -> list[str]:
    """The errors as they are printed."""
    return [str(error) for error in errors_of(text, env)]


def cluster(keys: str) -> str:
    """A configuration whose one cluster `u` has these keys, as a flow mapping's inside."""
    return f"clusters: {{u: {{endpoints: ['a:1'], {keys}}}}}"


def route(keys: str) -> str:
    """A configuration with one route, `o[0]`, with these keys, and a cluster `u`."""
    listener = f"o: {{bind: '127.0.0.1:0', routes: [{{{keys}}}]}}"
    return f"clusters: {{u: {{endpoints: ['a:1']}}}}\nlisteners: {{{listener}}}"
