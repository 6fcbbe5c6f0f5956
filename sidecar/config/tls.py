"""The YAML about TLS and about who may come in: `tls` of clusters and listeners, `clients`."""

import ssl
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from sidecar.config.grammar import parse_text
from sidecar.config.shape import Section, Text, word
from sidecar.config.units import BadValueError, PositiveDuration, shown
from sidecar.identity.clients import parse_name, parse_network
from sidecar.identity.files import FileError, load_authorities, load_pair, read


def _readable_pem(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadValueError("must be the path of a PEM file")
    try:
        content = read(value)
    except FileError as error:
        raise BadValueError(error.why.replace("read it", f"read {shown(value)}")) from None
    if b"-----BEGIN " not in content:
        raise BadValueError(f"{shown(value)} is no PEM file")
    return value


def _parse_verify(value: object) -> bool:
    if value is True:
        return True
    if value == "none":
        return False
    hint = "write verify: none to trust anybody" if value is False or value in ("off", "no") else "write true or none"
    raise BadValueError(f"{shown(value)} is neither true nor none", hint)


def _parse_san(value: object) -> str:
    try:
        return parse_name(parse_text(value))
    except BadValueError:
        raise
    except ValueError as error:
        hint = 'write spiffe://domain/path, "spiffe://domain/*", a.internal or "*.internal"'
        raise BadValueError(str(error), hint) from None


def _parse_cidr(value: object) -> str:
    try:
        return str(parse_network(parse_text(value)))
    except BadValueError:
        raise
    except ValueError as error:
        raise BadValueError(str(error)) from None


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _text(*examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "examples": list(examples)})


PemFile = Annotated[str, PlainValidator(_readable_pem), WithJsonSchema({"type": "string"})]
Verify = Annotated[bool, PlainValidator(_parse_verify), WithJsonSchema({"enum": [True, "none"]})]
San = Annotated[str, PlainValidator(_parse_san), _text("spiffe://example.org/web", "*.internal")]
Cidr = Annotated[str, PlainValidator(_parse_cidr), _text("10.0.0.0/8", "fd00::/8", "192.0.2.7")]
Sans = Annotated[list[San], Field(min_length=1), BeforeValidator(_one_or_more, json_schema_input_type=str | list[str])]
Cidrs = Annotated[
    list[Cidr], Field(min_length=1), BeforeValidator(_one_or_more, json_schema_input_type=str | list[str])
]


def _check(ca: str | None, cert: str | None, key: str | None) -> None:
    """Whether the files can be used, as far as that can be told without a peer."""
    try:
        if ca is not None:
            load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca)
        if cert is not None and key is not None:
            load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cert, key)
    except FileError as error:
        raise BadValueError(str(error)) from None


class Tls(Section):
    """TLS towards the endpoints; `tls: {}` trusts the system's authorities."""

    ca: PemFile | None = Field(None, description="PEM file of the authorities to trust instead of the system's.")
    cert: PemFile | None = Field(None, description="PEM file of our certificate, for mutual TLS.")
    key: PemFile | None = Field(None, description="PEM file of our certificate's private key.")
    server_name: Text = Field("", description="The name to ask for and to verify; the endpoint's host when empty.")
    sans: Sans | None = Field(
        None,
        description="Instead of the name: what the server's certificate may be for, as in clients.san; one is enough.",
    )
    verify: Verify = Field(True, description="true, or none: trust anybody.")

    @model_validator(mode="after")
    def _consistent(self) -> "Tls":
        if self.cert is not None and self.key is None:
            raise BadValueError("cert without key", "add key: FILE")
        if self.key is not None and self.cert is None:
            raise BadValueError("key without cert", "add cert: FILE")
        if self.sans is not None and not self.verify:
            raise BadValueError("sans cannot be asked for with verify: none", "remove one of them")
        _check(self.ca, self.cert, self.key)
        return self


class ListenerTls(Section):
    """TLS towards the clients: HTTP/2 and HTTP/1.1 by ALPN."""

    cert: PemFile = Field(description="PEM file of our certificate, with its chain.")
    key: PemFile = Field(description="PEM file of its private key.")
    client_ca: PemFile | None = Field(
        None, description="PEM file of authorities: clients have to show a certificate of one of them."
    )
    client_certificate: Annotated[str, *word("required", "optional")] = Field(
        "required",
        description="With client_ca: required, or optional; one that is shown has to be good. Default required.",
    )
    handshake_timeout: PositiveDuration = Field(
        10.0, description="From the connection to its first request. Default 10s."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ListenerTls":
        if self.client_certificate == "optional" and self.client_ca is None:
            raise BadValueError("client_certificate without client_ca", "add client_ca: FILE")
        _check(self.client_ca, self.cert, self.key)
        return self


class Clients(Section):
    """Who may come in. With both keys, both have to hold; everybody else gets a 403."""

    san: Sans | None = Field(
        None, description="Names in the client's certificate, URI or DNS; *.suffix and a last /* stand for any."
    )
    cidr: Cidrs | None = Field(None, description="Networks and addresses that the client may come from.")

    @model_validator(mode="after")
    def _something(self) -> "Clients":
        if self.san is None and self.cidr is None:
            raise BadValueError("needs san or cidr")
        return self
