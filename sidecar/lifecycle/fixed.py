"""What of a configuration is fixed when the process starts."""

from sidecar.config.errors import ConfigError, ConfigErrors
from sidecar.config.schema import Spec


def refuse_fixed_changes(path: str, before: Spec, after: Spec) -> None:
    """Ports, and where the access log goes, cannot be changed by a reload: ConfigErrors."""
    changed: list[str] = []
    if after.admin.bind != before.admin.bind:
        changed.append("admin.bind")
    if after.admin.socket_mode != before.admin.socket_mode:
        changed.append("admin.socket_mode")
    if after.access_log != before.access_log:
        changed.append("access_log")
    if after.takeover != before.takeover:
        changed.append("takeover")
    known = before.all_listeners()
    for name, listener in after.all_listeners().items():
        old = known.get(name)
        if old is not None and (old.bind != listener.bind or old.mode != listener.mode):
            changed.append(f"listeners.{name}.{'bind' if old.bind != listener.bind else 'mode'}")
    if changed:
        raise ConfigErrors(
            [ConfigError(path, 1, 1, key, "changed while running", "restart required") for key in changed]
        )
