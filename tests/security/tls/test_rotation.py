"""Case 10: certificates rotate under load of clients that reconnect, and none of their requests fails.

Two sidecars as processes of their own, mutual TLS between them and to the clients;
every certificate is replaced again and again, in the ways in which tools replace them.
"""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.interop.setups import TIMEOUT
from tests.support.authority import Authority
from tests.support.http_service import HttpService
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess

SHOP, BANK = "spiffe://example.org/shop", "spiffe://example.org/bank"


class Mount:
    """A folder of a mounted secret: tls.crt, tls.key and ca.crt."""

    def __init__(self, path: Path, authority: Authority, *names: str) -> None:
        self.path = path
        self.authority = authority
        self.trusted = authority.pem
        self._names = names
        self._version = 0
        path.mkdir()
        self.swap()
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (path / name).symlink_to(f"..data/{name}")

    def swap(self) -> None:
        """A new version, by the kubelet's symlink."""
        self._version += 1
        folder = self.path / f"..{self._version}"
        folder.mkdir()
        cert, key = self.authority.issue_pem(*self._names)
        (folder / "tls.crt").write_bytes(cert)
        (folder / "tls.key").write_bytes(key)
        (folder / "ca.crt").write_bytes(self.trusted)
        fresh = self.path / "..data_tmp"
        fresh.symlink_to(folder.name)
        fresh.rename(self.path / "..data")

    def rename(self) -> None:
        """One file after the other, each in one step."""
        for name, content in self._pair():
            fresh = self.path / f"{name}.new"
            fresh.write_bytes(content)
            fresh.rename(self.path / "..data" / name)

    def overwrite(self) -> None:
        """In place and by halves, as a careless script does."""
        for name, content in self._pair():
            with (self.path / "..data" / name).open("wb", buffering=0) as file:
                file.write(content[: len(content) // 2])
                file.write(content[len(content) // 2 :])

    def _pair(self) -> list[tuple[str, bytes]]:
        cert, key = self.authority.issue_pem(*self._names)
        return [("tls.crt", cert), ("tls.key", key)]

    def file(self, name: str) -> str:
        return str(self.path / name)


class Rotations:
    def __init__(self, folder: Path, service: str) -> None:
        self.authority = Authority(folder)
        self.shop = Mount(folder / "shop", self.authority, SHOP, "127.0.0.1")
        self.bank = Mount(folder / "bank", self.authority, BANK)
        self.next_authority = Authority(folder, "next")
        self.context = self._context(self.authority)
        self.folder = folder
        self.service = service
        self.seen: Counter[str] = Counter()
        self.stopped = False
        self._answered = asyncio.Condition()

    def tls(self, mount: Mount, **more: Any) -> dict[str, Any]:
        return {"cert": mount.file("tls.crt"), "key": mount.file("tls.key"), **more}

    def bank_yaml(self) -> str:
        tls = self.tls(self.bank, client_ca=self.bank.file("ca.crt"))
        listener = {"bind": "127.0.0.1:0", "tls": tls, "clients": {"san": [SHOP]}, "routes": [{"to": "app"}]}
        return _yaml({"app": {"endpoints": [self.service]}}, {"in": listener})

    def shop_yaml(self, bank: str) -> str:
        tls = self.tls(self.shop, ca=self.shop.file("ca.crt"), sans=[BANK])
        # Idle connections go at once: the sidecars reconnect to each other too.
        cluster = {"endpoints": [bank], "tls": tls, "timeouts": {"idle": "50ms"}, "retry": {"attempts": 1}}
        front = self.tls(self.shop, client_ca=self.shop.file("ca.crt"))
        clients = {"san": ["spiffe://example.org/client"]}
        listener = {"bind": "127.0.0.1:0", "tls": front, "clients": clients, "routes": [{"to": "bank"}]}
        return _yaml({"bank": cluster}, {"out": listener})

    def _context(self, issuer: Authority) -> ssl.SSLContext:
        """A client of either authority's servers, with a certificate of one of them."""
        context = self.authority.as_client(issuer.issue("spiffe://example.org/client"))
        context.load_verify_locations(self.next_authority.path)
        return context

    def replace_authority(self) -> Iterator[None]:
        """The steps from one authority to the next; each has to be seen before the following."""
        old, new = self.authority, self.next_authority
        for mount in (self.bank, self.shop):
            mount.trusted = old.pem + new.pem
            mount.swap()
        yield
        for mount in (self.bank, self.shop):
            mount.authority = new
            mount.swap()
        self.context = self._context(new)
        yield
        for mount in (self.bank, self.shop):
            mount.trusted = new.pem
            mount.swap()
        yield

    async def load(self, url: str) -> None:
        """Requests one after the other, each on a connection and with a handshake of its own."""
        number = 0
        while not self.stopped:
            number += 1
            connector = aiohttp.TCPConnector(ssl=self.context, force_close=True)
            try:
                async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as client:
                    method = "POST" if number % 2 else "GET"
                    async with client.request(method, url, data=b"x" if number % 2 else None) as response:
                        await response.read()
                        self.seen[str(response.status)] += 1
            except (aiohttp.ClientError, ssl.SSLError, TimeoutError) as error:
                self.seen[repr(error)] += 1
            async with self._answered:
                self._answered.notify_all()

    async def shown(self, port: int) -> bytes:
        """The certificate that a client sees now."""
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=self.context)
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(True)
        writer.transport.abort()
        return certificate

    async def until(self, more: int) -> None:
        """Wait for so many further answers."""
        wanted = self.seen.total() + more
        async with self._answered:
            await self._answered.wait_for(lambda: self.seen.total() >= wanted)


def _yaml(clusters: dict[str, Any], listeners: dict[str, Any]) -> str:
    return yaml.safe_dump({"admin": {"bind": "127.0.0.1:0"}, "clusters": clusters, "listeners": listeners})


async def loaded(sidecar: SidecarProcess, after: int, file: str) -> int:
    """Wait until a process has read a file again; how many events it has told by then."""

    def told(_: Any) -> bool | None:
        found = any(
            event.get("event") == "certificate" and event.get("file") == file and event.get("state") == "loaded"
            for event in sidecar.events[after:]
        )
        return found or None

    await sidecar.until(told)
    return len(sidecar.events)


@pytest.mark.slow
async def test_no_request_fails_while_every_certificate_is_replaced(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    await _rotate(processes, tmp_path, http_service, rounds=1, callers=4)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_no_request_fails_in_a_long_run(processes: Processes, tmp_path: Path, http_service: HttpService) -> None:
    await _rotate(processes, tmp_path, http_service, rounds=60, callers=8)


async def _rotate(processes: Processes, folder: Path, http_service: HttpService, rounds: int, callers: int) -> None:
    world = Rotations(folder, http_service.address)
    homes = [folder / "b", folder / "s"]
    for home in homes:
        home.mkdir()
    bank = SidecarProcess(homes[0], world.bank_yaml())
    processes.own(bank)
    await bank.serve()
    shop = SidecarProcess(homes[1], world.shop_yaml(bank.addresses["in"]))
    processes.own(shop)
    await shop.serve()
    tasks = [asyncio.create_task(world.load(f"https://{shop.addresses['out']}/echo")) for _ in range(callers)]
    await world.until(20)
    ways: list[Callable[[Mount], None]] = [Mount.swap, Mount.rename, Mount.overwrite]
    told = {id(bank): 0, id(shop): 0}
    shown = {await world.shown(shop.port("out"))}
    for _ in range(rounds):
        for way in ways:
            for mount, sidecar in ((world.bank, bank), (world.shop, shop)):
                way(mount)
                told[id(sidecar)] = await loaded(sidecar, told[id(sidecar)], mount.file("tls.crt"))
                await world.until(10)
            shown.add(await world.shown(shop.port("out")))
    for _ in world.replace_authority():
        for mount, sidecar in ((world.bank, bank), (world.shop, shop)):
            told[id(sidecar)] = await loaded(sidecar, told[id(sidecar)], mount.file("tls.crt"))
        await world.until(20)
    world.stopped = True
    await asyncio.gather(*tasks)
    assert world.seen.keys() == {"200"}, world.seen
    assert world.seen.total() >= 20 + rounds * 6 * 10
    assert len(shown) == 1 + rounds * len(ways)
    for sidecar in (bank, shop):
        assert not [event for event in sidecar.events if event["event"] == "tls_handshake_failed"]
        assert "Traceback" not in json.dumps(sidecar.stderr)
