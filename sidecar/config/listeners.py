"""The YAML under `listeners.NAME`, its routes included."""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from sidecar.config.clusters import Attempts, Cluster, GrpcCode, Retry, RetryOn, Timeouts, _Growing
from sidecar.config.hedge import NEVER, RouteHedgeEntry
from sidecar.config.pressure import ListenerTimeouts
from sidecar.config.shape import (
    Allowed,
    Authority,
    Bind,
    EditedFieldName,
    FieldName,
    FieldValue,
    Grpc,
    Host,
    Method,
    Name,
    Path,
    Regex,
    Repeatable,
    Section,
    Text,
    word,
)
from sidecar.config.tls import Clients, ListenerTls
from sidecar.config.units import BadValueError, GivenTimeout, PositiveDuration, Size
from sidecar.policy.priority import HEADER, PRIORITIES

Weight = Annotated[int, Field(ge=1, le=1_000_000)]


class HeaderMatch(Section):
    """What a header must be. Exactly one of value, present and regex."""

    value: FieldValue | None = Field(None, description="Exactly this.")
    present: bool | None = Field(None, description="true: there; false: not there.")
    regex: Regex | None = Field(None, description="The whole value matches.")

    @model_validator(mode="after")
    def _one_kind(self) -> "HeaderMatch":
        if sum(part is not None for part in (self.value, self.present, self.regex)) != 1:
            raise BadValueError("needs exactly one of value, present and regex")
        return self


def _header_match(value: object) -> object:
    if isinstance(value, dict):
        return value
    if isinstance(value, (str, int, float)):
        # FieldValue says that a number wants quotes.
        return {"value": value}
    raise BadValueError("must be text", "or {present: true} or {regex: ...}")


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


HeaderMatchEntry = Annotated[HeaderMatch, BeforeValidator(_header_match, json_schema_input_type=str | HeaderMatch)]
Hosts = Annotated[
    list[Host], Field(min_length=1), BeforeValidator(_one_or_more, json_schema_input_type=str | list[str])
]


class Match(Section):
    """Which requests a route takes: every condition that is given must hold."""

    host: Hosts | None = Field(None, description="users.internal, *.internal, or a list; without the port.")
    path: Path | None = Field(None, description="Exactly this path.")
    prefix: Path | None = Field(
        None, description="Paths that start so, at a segment's border: /v1 takes /v1/x, not /v10."
    )
    regex: Regex | None = Field(None, description="The whole path matches this expression.")
    grpc: Grpc | None = Field(None, description="pkg.Service/Method, pkg.Service/* or pkg.*")
    methods: Annotated[list[Method], Field(min_length=1)] | None = Field(None, description="HTTP methods.")
    headers: dict[FieldName, HeaderMatchEntry] = Field(
        {}, description="By name: a value, {present: true} or {regex: ...}."
    )

    @model_validator(mode="after")
    def _one_path(self) -> "Match":
        given = [kind for kind in ("path", "prefix", "regex", "grpc") if getattr(self, kind) is not None]
        if len(given) > 1:
            raise BadValueError(
                f"{' and '.join(given)} cannot stand together", "path, prefix, regex and grpc exclude each other"
            )
        return self


class Rewrite(Section):
    """What the service is asked instead."""

    prefix: Path | None = Field(None, description="Stands instead of the matched prefix or path.")
    host: Authority | None = Field(None, description="The authority that the service sees, with :port if it is to.")

    @model_validator(mode="after")
    def _something(self) -> "Rewrite":
        if self.prefix is None and self.host is None:
            raise BadValueError("needs prefix or host")
        return self


class HeaderEdits(Section):
    """Changes to header fields: removed, then set, then added."""

    set: dict[EditedFieldName, FieldValue] = Field({}, description="Stands exactly once, with this value.")
    add: dict[EditedFieldName, FieldValue] = Field({}, description="Once more, beside what is there.")
    remove: list[EditedFieldName] = Field([], description="Every one of this name goes.")


class RouteHeaders(Section):
    """Changes to the headers of both directions."""

    request: HeaderEdits = Field(default_factory=HeaderEdits.model_construct, description="On the way to the service.")
    response: HeaderEdits = Field(default_factory=HeaderEdits.model_construct, description="On the way to the client.")


REDIRECTS = (301, 302, 303, 307, 308)


class Redirect(Section):
    """An answer that sends the client elsewhere; what is not given stays."""

    status: int = Field(
        302, description="301, 302, 303, 307 or 308. Default 302.", json_schema_extra={"enum": list(REDIRECTS)}
    )
    scheme: Annotated[str, *word("http", "https")] | None = Field(None, description="http or https.")
    host: Authority | None = Field(None, description="Host, with :port when it is not the scheme's own.")
    path: Path | None = Field(None, description="Instead of the whole path.")
    prefix: Path | None = Field(None, description="Instead of the matched prefix or path.")

    @model_validator(mode="after")
    def _goes_somewhere(self) -> "Redirect":
        if self.status not in REDIRECTS:
            raise BadValueError(f"{self.status} is no redirect", "301, 302, 303, 307 or 308")
        if self.path is not None and self.prefix is not None:
            raise BadValueError("path and prefix cannot stand together")
        if self.scheme is None and self.host is None and self.path is None and self.prefix is None:
            raise BadValueError("sends the client where it came from", "give scheme, host, path or prefix")
        return self


class Respond(Section):
    """A fixed answer."""

    status: int = Field(200, ge=200, le=599, description="Default 200.")
    body: Text = Field("", description="Sent as UTF-8.")
    headers: dict[EditedFieldName, FieldValue] = Field({}, description="content-type is text/plain unless given.")

    @model_validator(mode="after")
    def _bodiless(self) -> "Respond":
        # RFC 9110 6.4.1.
        if self.status in (204, 205, 304) and self.body:
            raise BadValueError(f"a {self.status} has no body")
        return self


class RouteBackoff(_Growing):
    """What a route changes in its cluster's backoff. None = as the cluster has it."""

    base: PositiveDuration | None = Field(None, description="As retry.backoff.base of the cluster.")
    max: PositiveDuration | None = Field(None, description="As retry.backoff.max of the cluster.")


class RouteRetry(Section):
    """What a route changes in its cluster's retry. None = as the cluster has it."""

    attempts: Attempts | None = Field(None, description="Tries in total, the first included; 1 = no retry.")
    on: list[RetryOn] | None = Field(None, description="Reasons and HTTP statuses, instead of the cluster's.")
    grpc_on: list[GrpcCode] | None = Field(None, description="gRPC codes, instead of the cluster's.")
    idempotent: list[Repeatable] | None = Field(None, description="What may run twice, instead of the cluster's.")
    backoff: RouteBackoff | None = Field(None, description="The wait between tries.")
    replay: Size | None = Field(None, description="Request bytes kept for a retry.")

    def over(self, base: Retry) -> Retry:
        """The cluster's retry with this route's changes."""
        changes = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        if self.backoff is not None:
            given = {name: value for name in ("base", "max") if (value := getattr(self.backoff, name)) is not None}
            changes["backoff"] = base.backoff.model_copy(update=given)
        return base.model_copy(update=changes)


class RouteTimeouts(Section):
    """What a route changes in its cluster's timeouts. None = as the cluster has it, 0.0 = no bound."""

    request: GivenTimeout = Field(None, description="The whole exchange, every try included; 0 = none.")
    try_: GivenTimeout = Field(None, alias="try", description="One try; 0 = what is left of the request's.")
    idle: GivenTimeout = Field(None, description="Streams and bodies: no byte either way; 0 = none.")
    min_rate: Size | None = Field(
        None, description="Bytes a second of an answer whose length is known, over idle; 0 = any."
    )
    streams: list[Grpc] | None = Field(None, description="gRPC methods that are streams from the start.")

    def over(self, base: Timeouts) -> Timeouts:
        """The cluster's timeouts with this route's changes."""
        changes = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        return base.model_copy(update=changes)


def _split(value: object) -> object:
    return {value: 1} if isinstance(value, str) else value


Split = Annotated[
    dict[Name, Weight],
    Field(min_length=1),
    BeforeValidator(_split, json_schema_input_type=str | dict[str, int]),
]


class Route(Section):
    """What happens to requests that match. Exactly one of to, redirect and respond."""

    name: Name = Field(
        "", description="In metrics and logs; by default the listener's name and the place, outbound[0]."
    )
    match: Match = Field(
        default_factory=Match.model_construct, description="Which requests; not given = every request."
    )
    to: Split | None = Field(None, description="A cluster, or {cluster: weight, ...}.")
    redirect: Redirect | None = Field(None, description="An answer that sends the client elsewhere.")
    respond: Respond | None = Field(None, description="A fixed answer.")
    timeout: GivenTimeout = Field(None, description="Short for timeouts.request.")
    timeouts: RouteTimeouts | None = Field(None, description="Changes to the cluster's timeouts.")
    retry: RouteRetry | None = Field(None, description="Changes to the cluster's retry.")
    hedge: RouteHedgeEntry = Field(None, description="false, or a change to the cluster's hedge.")
    priority: Annotated[str, *word(*PRIORITIES)] = Field(
        "default",
        description="Of requests that do not say it themselves: critical, default or sheddable. Default default.",
    )
    rewrite: Rewrite | None = Field(None, description="What the service is asked instead.")
    headers: RouteHeaders | None = Field(None, description="Changes to header fields.")
    clients: Clients | None = Field(None, description="Who may ask for this, of those whom the listener lets in.")

    @model_validator(mode="after")
    def _consistent(self) -> "Route":
        if sum(part is not None for part in (self.to, self.redirect, self.respond)) != 1:
            raise BadValueError("needs exactly one of to, redirect and respond")
        if self.timeout is not None and self.timeouts is not None and self.timeouts.request is not None:
            raise BadValueError("timeout and timeouts.request say the same thing", "keep one of them")
        for part in (self.rewrite, self.redirect):
            if part is not None and part.prefix is not None and self.match.prefix is None and self.match.path is None:
                raise BadValueError("a new prefix needs something to stand for", "add match.prefix or match.path")
        return self

    def retry_over(self, base: Retry) -> Retry:
        """The retry that this route has when it goes to a cluster with `base`."""
        return base if self.retry is None else self.retry.over(base)

    def hedge_over(self, base: Cluster) -> float | str | None:
        """After what a request of this route is hedged when it goes to `base`; None for never."""
        if base.hedge is None or self.retry_over(base.retry).attempts < 2:
            return None  # a hedge counts as a try
        after = base.hedge.after if self.hedge is None else self.hedge.after
        return None if after == NEVER else after

    def timeouts_over(self, base: Timeouts) -> Timeouts:
        """The timeouts that this route has when it goes to a cluster with `base`."""
        narrowed = base if self.timeouts is None else self.timeouts.over(base)
        return narrowed if self.timeout is None else narrowed.model_copy(update={"request": self.timeout})


class Listener(Section):
    """Something that clients connect to."""

    bind: Bind = Field(description="host:port (port 0 = any free one) or unix:/path.")
    mode: Annotated[str, *word("http", "forward")] = Field(
        "http",
        description="http (HTTP/1.1, HTTP/2, gRPC, WebSocket) or forward (HTTP_PROXY and CONNECT). Default http.",
    )
    allow: list[Allowed] = Field(
        [],
        description='forward: what may be reached beyond the routes: hosts, "*.example.com:443", and the addresses '
        "and networks that are not public, 10.0.0.0/8.",
    )
    priority_header: FieldName | None = Field(
        HEADER, description="The request field that gives the priority; null = no field is believed."
    )
    tls: ListenerTls | None = Field(None, description="TLS towards the clients; null = plain text.")
    clients: Clients | None = Field(None, description="Who may come in; null = everybody who can connect.")
    timeouts: ListenerTimeouts = Field(
        default_factory=ListenerTimeouts.model_construct, description="What clients may take their time over."
    )
    max_connections: int | None = Field(
        None, ge=1, le=1 << 30, description="Clients at one time; null = as many as there are files for."
    )
    routes: list[Route] = Field([], description="The first that matches wins.")

    @model_validator(mode="after")
    def _fits_its_mode(self) -> "Listener":
        if self.mode == "http" and self.allow:
            raise BadValueError("allow is for mode: forward")
        if self.mode == "http" and not self.routes:
            raise BadValueError("needs at least one route", "add routes: [{to: CLUSTER}]")
        return self

    @model_validator(mode="after")
    def _can_tell_clients_apart(self) -> "Listener":
        sections = [("clients", self.clients)]
        sections += [(f"routes[{index}].clients", route.clients) for index, route in enumerate(self.routes)]
        for where, clients in sections:
            if clients is None:
                continue
            if clients.san is not None and (self.tls is None or self.tls.client_ca is None):
                raise BadValueError(f"{where}.san needs clients to show certificates", "add tls.client_ca")
            if clients.cidr is not None and self.bind.unix:
                raise BadValueError(
                    f"{where}.cidr: a unix socket has no source address", "the file's permissions say who may connect"
                )
        return self
