"""The effective configuration as it may be shown: secrets are masked."""

import re
from typing import Any

from sidecar.config.schema import Spec

MASK = "***"
_SECRET_NAME = re.compile(r"token|passw|secret|credential|authori[sz]ation|cookie|api[-_]?key|private", re.IGNORECASE)
# RFC 3986 3.2.1: what stands before the @ of an authority.
_USERINFO = re.compile(r"(?<=://)[^/@\s?#]+(?=@)")


def masked(spec: Spec) -> dict[str, Any]:
    """JSON-able, in the shape of the YAML, every default filled in.

    `defaults` are left out: they are merged into the clusters. Values under keys
    that sound secret, and user names and passwords in URLs, become `***`.
    """
    plain = spec.model_dump(mode="json", by_alias=True, exclude={"defaults"}, exclude_none=True)
    result = _mask(plain, False)
    assert isinstance(result, dict)
    return result


def _mask(value: Any, secret: bool) -> Any:
    if isinstance(value, dict):
        return {key: _mask(item, secret or _SECRET_NAME.search(key) is not None) for key, item in value.items()}
    if isinstance(value, list):
        return [_mask(item, secret) for item in value]
    if isinstance(value, str):
        return MASK if secret and value else _USERINFO.sub(MASK, value)
    return value
