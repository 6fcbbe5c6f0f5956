"""What there is to tell of TLS and of who was kept out, counted. May import
sidecar.identity, sidecar.model."""

from collections.abc import Callable
from typing import Any

from sidecar.identity.errors import REASONS, SIDES, TEXTS, detail_of, reason_of
from sidecar.model.seldom import Seldom


class TlsMeters:
    """One process's. `on_warning(event, fields)` hears of at most one handshake of a
    kind in ten seconds, with how many were like it since.

    `errors` counts failed handshakes by (side, reason), `expiries` holds the ends of
    certificates by (file, kind) in seconds since the epoch, `kept_out` counts
    connections that were closed for where they came from, by listener.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.errors = {(side, reason): 0 for side in SIDES for reason in REASONS}
        self.expiries: dict[tuple[str, str], float] = {}
        self.kept_out: dict[str, int] = {}
        self.on_warning: Callable[[str, dict[str, Any]], None] = lambda event, fields: None
        self._seldom = Seldom(clock)

    def failed(self, side: str, where: dict[str, str], peer: str, error: Exception) -> str:
        """A handshake failed: counted, told, and the words for whoever waits for it."""
        reason = reason_of(error)
        self.errors[side, reason] += 1
        fields = {"side": side, **where, "peer": peer, "reason": reason, "detail": detail_of(error)}
        self._warn("tls_handshake_failed", (side, *where.values(), reason), fields)
        return TEXTS[reason]

    def keep_out(self, listener: str, peer: str) -> None:
        """A connection was closed: nobody is let in from there."""
        self.kept_out[listener] = self.kept_out.get(listener, 0) + 1
        self._warn("client_kept_out", ("client", listener), {"listener": listener, "peer": peer})

    def _warn(self, event: str, key: tuple[str, ...], fields: dict[str, Any]) -> None:
        like_it = self._seldom.due(key)
        if like_it is not None:
            self.on_warning(event, {**fields, "more_like_it": like_it} if like_it else fields)
