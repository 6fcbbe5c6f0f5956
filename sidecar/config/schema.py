"""The shape of the whole YAML: Spec. The sections live in clusters.py and listeners.py."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field, PrivateAttr

from sidecar.config.clusters import Cluster, Defaults
from sidecar.config.lifecycle import ExitWith, SocketPath
from sidecar.config.listeners import Listener, Match, Route
from sidecar.config.pressure import Overload, OverloadEntry
from sidecar.config.shape import Bind, Host, Name, Section, Text, word
from sidecar.config.units import Duration
from sidecar.model.address import Address


class Admin(Section):
    """Health, metrics, API, dashboard."""

    bind: Bind = Field(
        Address("127.0.0.1", 15000), description="Default 127.0.0.1:15000. Beyond this machine it needs token_file."
    )
    allowed_hosts: list[Host] = Field(
        [], description="Host fields that are answered beside localhost, loopback and the bound address."
    )
    token_file: Annotated[Text, Field(min_length=1)] | None = Field(
        None, description="Holds the bearer token that everything but /healthz and /readyz asks for."
    )
    open_metrics: bool = Field(False, description="Answer /metrics without the token.")
    socket_mode: Annotated[str, *word("0600", "0660")] = Field(
        "0600", description="Who may connect when bind is unix:/path: the owner, or the group too. Default 0600."
    )


class Spec(Section):
    """One configuration, checked. It lives until `assembly` has made a snapshot of it."""

    service: Annotated[Text, Field(max_length=253)] = Field(
        "", description="Who this sidecar sits beside; default $SIDECAR_SERVICE, else the host name."
    )
    admin: Admin = Field(default_factory=Admin.model_construct, description="Health, metrics, API, dashboard.")
    access_log: Annotated[Text, Field(min_length=1)] = Field("off", description="off, stdout or a file. Default off.")
    shutdown: Duration = Field(25.0, description="From SIGTERM to the exit, at most. Default 25s.")
    exit_with: ExitWith | None = Field(None, description="A process whose end is the sidecar's too.")
    wait_for: list[Name] = Field([], description="Clusters that need a usable endpoint before /readyz says yes.")
    takeover: SocketPath | None = Field(
        None, description="A unix socket by which the next process gets this one's listening sockets."
    )
    overload: OverloadEntry = Field(
        default_factory=Overload.model_construct,
        description="When the sidecar runs short of time, memory or files itself; false = nothing is watched.",
    )
    defaults: Defaults = Field(
        default_factory=Defaults.model_construct, description="Any cluster key; merged under every cluster."
    )
    clusters: dict[Name, Cluster] = Field({}, description="Named sets of endpoints.")
    listeners: dict[Name, Listener] = Field({}, description="What clients connect to.")
    # Values that variables were filled in with and that nobody is to see.
    _secrets: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def secrets(self) -> frozenset[str]:
        """What must not be shown of this configuration, wherever it stands."""
        return self._secrets

    def hide(self, secrets: Iterable[str]) -> None:
        """Never show these."""
        self._secrets = frozenset(secrets)

    def same_as(self, other: "Spec") -> bool:
        """Whether nothing differs, order included: the first cluster of a split gives its policies."""
        return self == other and self.model_dump_json() == other.model_dump_json()

    def all_listeners(self) -> dict[str, Listener]:
        """The listeners by name, with one for every cluster that has `listen`."""
        listeners = dict(self.listeners)
        for name, cluster in self.clusters.items():
            if cluster.listen is not None:
                listeners[name] = shorthand(name, cluster.listen)
        return listeners


def shorthand(cluster: str, bind: Address) -> Listener:
    """The listener that a cluster's `listen` stands for: one route for everything."""
    # model_construct: nothing here comes from outside, and validators take text.
    route = Route.model_construct(name=f"{cluster}[0]", match=Match.model_construct(), to={cluster: 1})
    return Listener.model_construct(bind=bind, mode="http", allow=[], routes=[route])


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the YAML. Any scalar may also be written with `${VAR}`."""
    schema = Spec.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "sidecar configuration"
    return {key: _with_variables(value) for key, value in schema.items()}


_VARIABLE = {"type": "string", "pattern": r"\$\{"}


def _with_variables(part: Any) -> Any:
    if isinstance(part, list):
        return [_with_variables(item) for item in part]
    if not isinstance(part, dict):
        return part
    changed = {key: _with_variables(value) for key, value in part.items()}
    if not _is_narrow_scalar(changed):
        return changed
    beside = {key: changed.pop(key) for key in ("description", "default", "title", "examples") if key in changed}
    return {"anyOf": [changed, _VARIABLE], **beside}


def _is_narrow_scalar(part: dict[str, Any]) -> bool:
    kind = part.get("type")
    if kind in ("integer", "number", "boolean"):
        return True
    return (kind == "string" and ("pattern" in part or "enum" in part)) or (
        kind is None and isinstance(part.get("enum"), list)
    )
