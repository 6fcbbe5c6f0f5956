"""From a file to a Spec, or to all of its errors with their places."""

import socket
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sidecar.config import references
from sidecar.config.clusters import CHECKS
from sidecar.config.errors import ConfigError, ConfigErrors, Place, Problem, Step, path_text
from sidecar.config.schema import Spec
from sidecar.config.translate import problem
from sidecar.config.tree import Node, read_tree

MAX_BYTES = 1 << 20


def load_file(path: str, env: Mapping[str, str]) -> Spec:
    """The Spec in a file. ConfigErrors tells everything that is wrong with it."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _whole_file(path, f"cannot be read: {reason}") from None
    if len(raw) > MAX_BYTES:
        raise _whole_file(path, f"is larger than {MAX_BYTES >> 20} MiB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        raise _not_utf8(path, before) from None
    return load_text(text, path, env)


def load_text(text: str, name: str, env: Mapping[str, str]) -> Spec:
    """The Spec in a text; `name` stands for the file in errors. `env` fills in variables."""
    _check_text(text, name)
    errors: list[ConfigError] = []
    root = read_tree(text, name, env, errors)
    data = root.data() if root is not None else None
    if root is None or data is None:
        raise ConfigErrors([*errors, ConfigError(name, 1, 1, "", "is empty", "`sidecar init` writes a starter")])
    if not isinstance(data, dict):
        raise ConfigErrors([*errors, ConfigError(name, *root.place, "", "must be a mapping")])
    whole = _complete(data, env)
    problems = references.check_data(whole, lambda path: _locate(root, path)[0])
    spec = None
    try:
        spec = Spec.model_validate(whole)
    except ValidationError as error:
        problems += map(problem, error.errors(include_url=False))
    if spec is not None and not problems:
        problems += references.check_spec(spec)
    errors += (found for each in problems if (found := _placed(root, name, each)) is not None)
    if errors or spec is None:
        raise ConfigErrors(errors)
    return spec


def _check_text(text: str, name: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise _not_utf8(name, text[: error.start]) from None
    if size > MAX_BYTES:
        raise _whole_file(name, f"is larger than {MAX_BYTES >> 20} MiB")


def _whole_file(name: str, reason: str) -> ConfigErrors:
    return ConfigErrors([ConfigError(name, 1, 1, "", reason)])


def _not_utf8(name: str, before: str) -> ConfigErrors:
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    return ConfigErrors([ConfigError(name, line, column, "", "is not UTF-8")])


def _complete(data: dict[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """The data with defaults merged, routes named and the service filled in."""
    whole = dict(data)
    if whole.get("service") is None:
        whole["service"] = env.get("SIDECAR_SERVICE") or socket.gethostname()
    clusters, defaults = whole.get("clusters"), whole.get("defaults")
    if isinstance(clusters, dict) and isinstance(defaults, dict):
        whole["clusters"] = {
            name: _merged(defaults, {} if cluster is None else cluster) for name, cluster in clusters.items()
        }
    listeners = whole.get("listeners")
    if isinstance(listeners, dict):
        whole["listeners"] = {name: _with_route_names(name, listener) for name, listener in listeners.items()}
    return whole


def _merged(under: Any, over: Any) -> Any:
    """`over` on top of `under`: mappings key by key, everything else as a whole."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    result = dict(under)
    if any(kind in over for kind in CHECKS):
        # A cluster that is checked by TCP is not checked by the HTTP of the defaults.
        result = {key: value for key, value in result.items() if key not in CHECKS}
    if "policy" in over:
        # The key that the default policy hashes is nothing to another policy.
        result.pop("key", None)
    for key, value in over.items():
        # An empty section changes nothing; null itself (`tls: null`) takes a default away.
        result[key] = _merged(result[key], value) if key in result else value
    return result


def _with_route_names(listener: str, section: Any) -> Any:
    routes = section.get("routes") if isinstance(section, dict) else None
    if not isinstance(routes, list):
        return section
    named = [
        {**route, "name": f"{listener}[{index}]"} if isinstance(route, dict) and route.get("name") is None else route
        for index, route in enumerate(routes)
    ]
    return {**section, "routes": named}


def _placed(root: Node, name: str, found: Problem) -> ConfigError | None:
    (line, column), path, flagged = _locate_fully(root, found.path, found.at_key)
    if flagged:
        return None
    return ConfigError(name, line, column, path_text(path), found.reason, found.hint)


def _locate(root: Node, path: tuple[Step, ...]) -> tuple[Place, bool]:
    place, _, flagged = _locate_fully(root, path, False)
    return place, flagged


def _locate_fully(root: Node, path: tuple[Step, ...], at_key: bool) -> tuple[Place, tuple[Step, ...], bool]:
    """Where a path stands, as it is to be shown, and whether an error there was told already."""
    place, depth, flagged = _walk(root, path, at_key)
    if depth < len(path) and path[0] == "clusters" and len(path) > 2:
        # Not written in the cluster: it may have come from the defaults.
        inherited = ("defaults", *path[2:])
        other, other_depth, other_flagged = _walk(root, inherited, at_key)
        if other_depth == len(inherited):
            return other, inherited, other_flagged
    return place, path, flagged


def _walk(root: Node, path: tuple[Step, ...], at_key: bool) -> tuple[Place, int, bool]:
    """The place of the deepest node on a path that is there, and how many steps deep that is."""
    node = root
    for depth, step in enumerate(path):
        content = node.content
        last = depth == len(path) - 1
        if isinstance(content, dict) and isinstance(step, str) and step in content:
            if last and at_key:
                return node.keys[step], len(path), False
            node = content[step]
        elif isinstance(content, list) and isinstance(step, int) and step < len(content):
            node = content[step]
        else:
            return node.place, depth, node.flagged
    return node.place, len(path), node.flagged
