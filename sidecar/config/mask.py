"""The effective configuration as it may be shown: secrets are masked."""

from typing import Any

from sidecar.config.schema import Spec
from sidecar.config.secrets import MASK, NAMED, sounds_secret, without_credentials


def masked(spec: Spec) -> dict[str, Any]:
    """JSON-able, in the shape of the YAML, every default filled in.

    `defaults` are left out: they are merged into the clusters. A key that is not set reads null,
    as it can be written, but for those of a route: what those leave out is the cluster's. Values under keys
    that sound secret, what secret variables were filled in with, credentials, and user
    names and passwords in URLs, become `***`.
    """
    plain = spec.model_dump(mode="json", by_alias=True, exclude={"defaults"})
    for name, listener in spec.listeners.items():
        routes = [route.model_dump(mode="json", by_alias=True, exclude_none=True) for route in listener.routes]
        plain["listeners"][name]["routes"] = routes
    return {
        key: {name: _mask(each, False, spec.secrets) for name, each in value.items()}
        if key in NAMED
        else _mask(value, sounds_secret(key), spec.secrets)
        for key, value in plain.items()
    }


def _mask(value: Any, secret: bool, secrets: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _mask(item, secret or sounds_secret(key), secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_mask(item, secret, secrets) for item in value]
    if isinstance(value, str):
        return MASK if secret and value else without_credentials(value, secrets)
    return value
