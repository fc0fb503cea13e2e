"""Reads everything that can be read here, and asks every check."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config.tables import address_of
from engine.doctor import caches, clock, disk, files, kernel, port, shared, versions
from engine.doctor.check import Check, Verdict, unknown
from engine.doctor.diag import listeners
from engine.doctor.reader import Reader
from engine.doctor.sockets import sockets, tally
from engine.errors import EngineError
from engine.nodes.inspection import inspect_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from engine.config.tables import Config
    from engine.doctor.diag import Listener
    from engine.doctor.reader import Process
    from engine.doctor.sockets import Tally
    from engine.doctor.versions import Asked


class Examination:
    """One look at the machine that this runs on.

    Args:
        config: the engine's.
        path: where that was read, or a name for it.
        asked: engines that were asked for their version, the one of this machine among them.
        reader: of the kernel's files.
    """

    def __init__(
        self, config: Config, path: Path, asked: Sequence[Asked], reader: Reader | None = None
    ) -> None:
        self._config = config
        self._path = path
        self._asked = asked
        self._reader = reader = reader or Reader()
        self._listeners, self._why_not = _listeners()  # as early as can be: drops are counted from here on
        self._ports = kernel.port_range(reader)
        self._tally: Tally = tally(
            sockets(reader),
            listen=config.listen_address(),
            ports=self._ports or kernel.PORTS_DEFAULT,
            doors=[address_of(door.listen) for door in config.listening_doors() if door.transport == "tcp"],
        )
        self._processes: list[Process] = reader.holders(self._tally.inodes)

    def checks(self) -> list[Check]:
        """Return all checks; one that fails to look says so."""
        looks: list[tuple[str, Callable[[], Iterable[Check]]]] = [
            ("files", self._files),
            ("kernel", self._kernel),
            ("disk", self._disk),
            ("engines", self._engines),
            ("nodes", self._nodes),
            ("port", self._port),  # last: what was dropped meanwhile is seen
        ]
        found: list[Check] = []
        for name, look in looks:
            try:
                found += look()
            except (OSError, ValueError, EngineError) as exc:
                found.append(unknown(name, str(exc)))
        return found

    def _files(self) -> Iterator[Check]:
        need = files.needed(self._config)
        yield files.open_files(self._processes, need, listens=bool(self._tally.inodes))
        yield files.unit_files(self._reader.unit_files_max(files.UNIT), need)

    def _kernel(self) -> Iterator[Check]:
        reader, engine = self._reader, self._config.engine
        yield kernel.conntrack(reader)
        yield kernel.time_wait(reader)
        yield kernel.ports(self._ports, self._tally.by_destination, engine, max(1, len(self._processes)))
        yield kernel.tw_reuse(reader, [node.url for node in self._config.node])

    def _disk(self) -> Iterator[Check]:
        folder = self._data_dir()
        yield disk.space(folder)
        yield disk.fsync(folder, waits=not shared.is_shared(self._config.store))

    def _engines(self) -> Iterator[Check]:
        try:
            yield clock.synchronised(clock.kernel_state())
        except OSError as exc:
            yield unknown("clock", f"the kernel does not say whether it is synchronised: {exc.strerror}")
        yield from map(versions.engine, self._asked)
        if not shared.is_shared(self._config.store):
            yield clock.offsets({})
            yield versions.versions(self._asked, [])
            return
        try:
            facts = shared.look(self._config.store)
        except EngineError as exc:
            yield Check(
                "redis", Verdict.FAIL, "", "", str(exc), "start Redis, or mend store.url; check-config"
            )
            yield versions.versions(self._asked, [])
            return
        yield clock.offsets(shared.clocks(facts))
        yield versions.versions(self._asked, facts.engines)
        yield shared.persistence(facts)
        yield shared.evicts(facts)

    def _nodes(self) -> Iterator[Check]:
        found = asyncio.run(inspect_all(self._config, self._config.node, url=""))
        named = {node.name: finding for node, finding in zip(self._config.node, found, strict=True)}
        yield from caches.nodes(named, str(self._path))

    def _port(self) -> Iterator[Check]:
        before = self._ours(self._listeners)
        now, why_not = _listeners()
        after = self._ours(now)
        somaxconn = self._reader.number("net.core.somaxconn")
        yield port.backlog(somaxconn, self._config.engine.listen_backlog, after)
        yield port.drops(before, after, self._reader.counters(), self._why_not or why_not)
        yield port.proxy(self._tally)

    def _ours(self, found: Iterable[Listener]) -> list[Listener]:
        return [one for one in found if one.inode in self._tally.inodes]

    def _data_dir(self) -> Path:
        """Return the engine's folder; a relative one is seen from where the engine works, or would."""
        named = Path(self._config.engine.data_dir)
        places = [self._reader.folder_of(process.pid) for process in self._processes]
        places.append(self._path.resolve().parent)
        found = [place / named for place in places if place is not None]
        return next((folder for folder in found if folder.is_dir()), Path.cwd() / named)


def _listeners() -> tuple[list[Listener], str]:
    try:
        return listeners(), ""
    except OSError as exc:
        return [], f"the kernel tells nothing of single sockets ({exc.strerror})"
