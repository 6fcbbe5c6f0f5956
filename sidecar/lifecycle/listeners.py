"""The listeners of the process: those of the live configuration, and those that a reload removed
and whose last connections are still being answered."""

from collections.abc import Sequence

from sidecar.config.schema import Spec
from sidecar.lifecycle.sockets import Inherited, Offered
from sidecar.proxy.runtime import Runtime
from sidecar.telemetry.logs import get_logger
from sidecar.wire.listener import Listener
from sidecar.wire.portion import adapt_all

log = get_logger()


class Listeners(dict[str, Listener]):
    """By name, those of the live configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.retired: list[Listener] = []

    def everyone(self) -> list[Listener]:
        """All that have connections."""
        return [*self.values(), *self.retired]

    def adapt_to_crowd(self) -> None:
        """There is a crowd, or none any more."""
        for listener in self.everyone():
            adapt_all(listener.connections)

    def prepare(self, runtime: Runtime, spec: Spec, inherited: Inherited, relieves: bool) -> None:
        """Bind what nobody has bound for us. `relieves`: what is inherited is accepted on by
        another process until `take_all`. BindError."""
        for name, wanted in spec.all_listeners().items():
            listener = self[name] = Listener(runtime, name, wanted.bind, wanted.mode)
            sock = inherited.take(name, wanted.bind)
            listener.handed_over = sock is not None and relieves
            listener.prepare(sock)

    async def start(self) -> None:
        """Accept."""
        for listener in self.values():
            await listener.start()

    def take_all(self) -> None:
        """The process before us has let go: everything is ours."""
        for listener in self.values():
            listener.handed_over = False

    def tell(self) -> None:
        """Log where they listen."""
        for name, listener in self.items():
            log.info("listening", listener=name, address=str(listener.address))

    async def added(self, runtime: Runtime, spec: Spec) -> "Listeners":
        """Those of a new configuration that there are not yet, bound. BindError, and none is left."""
        wanted = spec.all_listeners()
        new = Listeners()
        try:
            for name in wanted.keys() - self.keys():
                new[name] = Listener(runtime, name, wanted[name].bind, wanted[name].mode)
                new[name].prepare()
        except BaseException:
            await new.stop()
            raise
        return new

    def retire(self, spec: Spec) -> list[Listener]:
        """Those that a new configuration does not have; they are live no more."""
        gone = [self.pop(name) for name in self.keys() - spec.all_listeners().keys()]
        self.retired = [listener for listener in self.retired if listener.connections] + gone
        return gone

    async def join(self, new: "Listeners") -> None:
        """These accept from now on, too."""
        await new.start()
        new.tell()
        self.update(new)

    def offers(self) -> list[Offered]:
        """The sockets that a successor may have."""
        return [
            Offered(listener.name, str(listener.bind), listener.listening)
            for listener in self.values()
            if listener.listening is not None
        ]

    def handed_over(self, names: Sequence[str]) -> None:
        """Another process has these."""
        for listener in self.values():
            listener.handed_over = listener.name in names

    async def stop(self) -> None:
        """Close all."""
        for listener in self.everyone():
            await listener.stop()
