"""From a file to a Spec, or to all of its errors with their places."""

import os
import socket
import stat
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from pydantic import ValidationError

from sidecar.config import references
from sidecar.config.clusters import CHECKS
from sidecar.config.errors import ConfigError, ConfigErrors, Place, Problem, Step, path_text, shortened
from sidecar.config.schema import Spec
from sidecar.config.secrets import Filled, path_sounds_secret, tells, without_credentials
from sidecar.config.translate import problem
from sidecar.config.tree import MAX_ERRORS, Node, read_tree
from sidecar.config.units import shown

MAX_BYTES = 1 << 20


def load_file(path: str, env: Mapping[str, str], *, at_once: bool = False) -> Spec:
    """The Spec in a file. ConfigErrors tells everything that is wrong with it. `at_once`
    refuses what is no regular file: a pipe may have to be waited for."""
    return load_text(_read(path, at_once), path, env)


def placed(path: str, env: Mapping[str, str], found: Iterable[Problem]) -> ConfigErrors:
    """What is wrong with a file that is right in itself, with the places. Read anew,
    because a tree is not kept; should it have changed just now, they may be others."""
    filled = Filled()
    try:
        root = read_tree(_read(path, at_once=True), path, env, [], filled)
    except ConfigErrors:
        root = None
    if root is None:
        root = Node({}, (1, 1))
    errors = (_placed(root, path, each, filled) for each in found)
    return ConfigErrors(error for error in errors if error is not None)


def _read(path: str, at_once: bool) -> str:
    flag = os.O_NONBLOCK if at_once else 0
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | flag)) as file:
            regular = not at_once or stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            raw = (file.read(MAX_BYTES + 1) if regular else None) or b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "`sidecar init FILE` writes a starter" if isinstance(error, FileNotFoundError) else ""
        raise _whole_file(path, f"cannot be read: {reason}", hint) from None
    if not regular:
        raise _whole_file(path, "is no regular file")
    if len(raw) > MAX_BYTES:
        raise _whole_file(path, f"is larger than {MAX_BYTES >> 20} MiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        raise _not_utf8(path, before) from None


def load_text(text: str, name: str, env: Mapping[str, str]) -> Spec:
    """The Spec in a text; `name` stands for the file in errors. `env` fills in variables."""
    _check_text(text, name)
    errors: list[ConfigError] = []
    filled = Filled()
    root = read_tree(text, name, env, errors, filled)
    data = root.data() if root is not None else None
    if root is None or data is None:
        raise ConfigErrors([*errors, ConfigError(name, 1, 1, "", "is empty", "`sidecar init` writes a starter")])
    if not isinstance(data, dict):
        raise ConfigErrors([*errors, ConfigError(name, *root.place, "", "must be a mapping")])
    whole = _complete(data, env)
    problems = list(islice(references.check_data(whole, lambda path: _locate(root, path)), MAX_ERRORS))
    spec = None
    try:
        spec = Spec.model_validate(whole)
    except ValidationError as error:
        problems += map(problem, error.errors(include_url=False)[:MAX_ERRORS])
    if spec is not None and not problems:
        problems += references.check_spec(spec)
    errors += (found for each in problems if (found := _placed(root, name, each, filled)) is not None)
    if errors or spec is None:
        raise ConfigErrors(_not_too_many(errors))
    spec.hide(filled.secrets)
    return spec


def _not_too_many(errors: list[ConfigError]) -> list[ConfigError]:
    if len(errors) < MAX_ERRORS:
        return errors
    shown = sorted(errors, key=lambda error: (error.line, error.column))[:MAX_ERRORS]
    last = shown[-1]
    return [*shown, ConfigError(last.file, last.line, last.column, "", "has more errors, which are not shown")]


def _check_text(text: str, name: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise _not_utf8(name, text[: error.start]) from None
    if size > MAX_BYTES:
        raise _whole_file(name, f"is larger than {MAX_BYTES >> 20} MiB")


def _whole_file(name: str, reason: str, hint: str = "") -> ConfigErrors:
    return ConfigErrors([ConfigError(name, 1, 1, "", reason, hint)])


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


def _placed(root: Node, name: str, found: Problem, filled: Filled) -> ConfigError | None:
    place, path, node = _locate_fully(root, found.path, found.at_key)
    if node is not None and node.flagged:
        return None
    reason, hint = _discreet(found, node, path, filled)
    return ConfigError(name, *place, path_text(path), reason, hint)


# What is shorter stands in sentences for other reasons.
_WORTH_REPLACING = 3


def _discreet(found: Problem, node: Node | None, path: tuple[Step, ...], filled: Filled) -> tuple[str, str]:
    """Reason and hint without what a variable holds, and without what stands under a
    name that sounds secret: errors are logged, and shown by the admin API."""
    reason, hint = shortened(found.reason), shortened(found.hint)
    content = node.content if node is not None else None
    if node is not None and not isinstance(content, (dict, list)):
        whole = str(content)
        values = [filled.values[name] for name in node.variables]
        if path_sounds_secret(path):
            values.append(whole)
        if node.variables:
            instead = {shown(content): node.written, whole: node.written}
            instead |= {filled.values[name]: f"${{{name}}}" for name in node.variables}
            for told, written in instead.items():
                if len(told) >= _WORTH_REPLACING:
                    reason, hint = (text.replace(told, written) for text in (reason, hint))
        if any(tells(hint.replace(node.written, ""), value) for value in values):
            hint = ""
        if any(tells(reason.replace(node.written, ""), value) for value in values):
            names = " and ".join(f"${{{name}}}" for name in node.variables)
            reason = f"what {names} holds cannot stand here" if names else "this value cannot stand here"
    reason, hint = (without_credentials(filled.unfilled(text)) for text in (reason, hint))
    return reason, hint


def _locate(root: Node, path: tuple[Step, ...]) -> Place:
    return _locate_fully(root, path, False)[0]


def _locate_fully(root: Node, path: tuple[Step, ...], at_key: bool) -> tuple[Place, tuple[Step, ...], Node | None]:
    """Where a path stands, as it is to be shown, and the node there; None for a key."""
    place, depth, node = _walk(root, path, at_key)
    if depth < len(path) and path[0] == "clusters" and len(path) > 2:
        # Not written in the cluster: it may have come from the defaults.
        inherited = ("defaults", *path[2:])
        other, other_depth, other_node = _walk(root, inherited, at_key)
        if other_depth == len(inherited):
            return other, inherited, other_node
    if node is not None and node.variables:
        path = path[:depth]  # `to: NAME` is short for a mapping: the value itself would be a step
    return place, path, node


def _walk(root: Node, path: tuple[Step, ...], at_key: bool) -> tuple[Place, int, Node | None]:
    """The place of the deepest node on a path that is there, and how many steps deep that is."""
    node = root
    for depth, step in enumerate(path):
        content = node.content
        last = depth == len(path) - 1
        if isinstance(content, dict) and isinstance(step, str) and step in content:
            if last and at_key:
                return node.keys[step], len(path), None
            node = content[step]
        elif isinstance(content, list) and isinstance(step, int) and step < len(content):
            node = content[step]
        else:
            return node.place, depth, node
    return node.place, len(path), node
