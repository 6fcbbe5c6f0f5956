"""What of a configuration is fixed when the process starts."""

from sidecar.config.errors import Problem, Step
from sidecar.config.schema import Spec


def fixed_changes(before: Spec, after: Spec) -> list[Problem]:
    """Ports, and where the access log goes, cannot be changed by a reload."""
    changed: list[tuple[Step, ...]] = []
    if after.admin.bind != before.admin.bind:
        changed.append(("admin", "bind"))
    if after.admin.socket_mode != before.admin.socket_mode:
        changed.append(("admin", "socket_mode"))
    if after.access_log != before.access_log:
        changed.append(("access_log",))
    if after.takeover != before.takeover:
        changed.append(("takeover",))
    known = before.all_listeners()
    for name, listener in after.all_listeners().items():
        old = known.get(name)
        if old is None or (old.bind == listener.bind and old.mode == listener.mode):
            continue
        if name in after.listeners:
            changed.append(("listeners", name, "bind" if old.bind != listener.bind else "mode"))
        else:
            changed.append(("clusters", name, "listen"))
    return [Problem(path, "changed while running", "restart required") for path in changed]
