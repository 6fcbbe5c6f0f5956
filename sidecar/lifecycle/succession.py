"""Where this process stands: after one whose listening sockets it takes, before one that
takes them from it. takeover.py has the conversation, sockets.py what is found."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sidecar.config.schema import Spec
from sidecar.lifecycle.sockets import ADMIN, Inherited, Offered, from_systemd
from sidecar.lifecycle.takeover import Predecessor, Successor, claim
from sidecar.wire.listener import BindError


class Succession:
    """Both sides of one process.

    `publish(kind, fields)` hears of each step; `offers()` are the sockets that a successor
    may have, and `on_handed_over(pid, names)` is called when it serves them.
    """

    def __init__(
        self,
        version: str,
        publish: Callable[[str, dict[str, Any]], None],
        offers: Callable[[], list[Offered]],
        on_handed_over: Callable[[int, Sequence[str]], None],
    ) -> None:
        self._version = version
        self._publish = publish
        self._before: Successor | None = None  # our side towards the one before us
        self._after = Predecessor(
            version, offers, lambda state, fields: publish("takeover", {"state": state, **fields}), on_handed_over
        )

    @property
    def relieves(self) -> bool:
        """Whether another process serves until we do."""
        return self._before is not None

    async def inherit(self, spec: Spec, environment: Mapping[str, str]) -> Inherited:
        """The listening sockets that others have bound for us. TakeoverError when there is a
        process before us that does not give them."""
        binds = {name: listener.bind for name, listener in spec.all_listeners().items()}
        offered = from_systemd(environment, {**binds, ADMIN: spec.admin.bind})
        if spec.takeover is not None:
            self._before = await claim(spec.takeover, self._version)
        if self._before is not None:
            offered += self._before.offered
        return Inherited(offered)

    async def may_serve(self, ready: Awaitable[None]) -> None:
        """Nothing of ours can fail any more: returns when we may accept, which is when we are
        ready, or when the process before us serves no longer. TakeoverError when it goes on instead."""
        if self._before is None:
            return
        waits = [asyncio.ensure_future(ready), asyncio.ensure_future(self._before.ending())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        await self._before.may_go()

    async def serving(self, spec: Spec, inherited: Inherited) -> None:
        """We accept: relieve the one before us, and be there for the one after us. BindError."""
        before = self._before
        if before is not None:
            await before.serving(inherited.taken)
            self._publish("takeover", {"state": "taken_over", "pid": before.pid, "sockets": inherited.taken})
        if spec.takeover is None:
            return
        try:
            self._after.open(spec.takeover, None if before is None else before.own)
        except OSError as error:
            raise BindError(f"cannot listen on {spec.takeover} (takeover): {error.strerror or error}") from None

    async def end(self) -> None:
        """We end: a process that takes over has to do so now."""
        await self._after.end()

    async def close(self) -> None:
        """Talk to neither any more."""
        await self._after.close()
        if self._before is not None:
            self._before.close()
