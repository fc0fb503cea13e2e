"""An admission and the delivery behind it; the saver keeps what it is pushed until a test commits it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from engine.base.timer import Timer
from engine.config.load import parse
from engine.config.tables import AuthConfig
from engine.delivery.dispatch import Dispatch
from engine.delivery.endings import Endings
from engine.delivery.journal_rows import JournalRows
from engine.delivery.kept_rows import KeptRows
from engine.delivery.load import Load
from engine.delivery.parking import Parking
from engine.errors import BacklogFullError
from engine.intake.admission import Admission
from engine.intake.auth import Auth
from engine.intake.client import Client
from engine.intake.topology import Topology
from engine.intake.validate import Validator
from engine.observe.counters import Stats
from engine.saver.pool import SaverPool
from engine.tasks.records import By
from engine.tasks.region import RegionMap
from tests.fakes.audit import Lines, audit_of
from tests.fakes.held_saver import held_saver
from tests.fakes.shares import NotingNode

if TYPE_CHECKING:
    from engine.intake.replies import Reply
    from engine.tasks.task import Task

CONFIG = parse({"node": [{"name": "edge-1", "driver": "varnish", "url": "http://127.0.0.1:1"}]})


class AdmissionRig:
    """An admission and what it touches."""

    def __init__(self, *, live_max: int = 100, wait_s: float = 0.001) -> None:
        loop = asyncio.get_running_loop()
        self.documents: dict[str, bytes] = {}
        self.saver = held_saver(SimpleNamespace(document=self.documents.get))
        self.savers = SaverPool([self.saver])
        self.load = Load(loop)
        self.regions = RegionMap(4)
        self.stats = Stats()
        self.alerts: list[str] = []
        self.news = asyncio.Event()
        self.lines = Lines()
        self.client = Client(Auth(AuthConfig(), []).check(None, "submit"), By("anonymous", "192.0.2.7"))
        self.full = cast("Any", SimpleNamespace(names=set()))
        self.replayed = asyncio.Event()
        self.dispatch = self._delivery(loop)
        self.admission = Admission(
            Validator(Topology(CONFIG), due_s=60, allows_callback=lambda _: None),
            self.regions,
            self.dispatch,
            self.savers,
            self.stats,
            reader=cast("Any", self),
            load=self.load,
            full=self.full,
            replayed=self.replayed,
            live_max=live_max,
            wait_s=wait_s,
            waiting_max=10,
            audit=audit_of(self.lines),
            on_alert=lambda key, _level, _message: self.alerts.append(key),
        )

    def _delivery(self, loop: asyncio.AbstractEventLoop) -> Dispatch:
        nothing: Any = None
        timer = Timer(loop)
        parking = Parking(nothing, self.stats, KeptRows(), now=lambda: 0.0, is_shared=False)
        journal_rows = JournalRows(self.savers.of)
        endings = Endings(
            self.regions, timer, self.savers, load=self.load, journal_rows=journal_rows, parking=parking,
            stats=self.stats, audit=audit_of(), touched=None,
        )  # fmt: skip
        return Dispatch(
            loop, {"edge-1": NotingNode()}, timer, self.stats, endings=endings, parking=parking,
            plan_nodes=nothing, touched=None, load=self.load, savers=self.savers,
        )  # fmt: skip

    @property
    def saved(self) -> list[Task]:
        """Tasks that the saver was pushed, in their order."""
        return self.saver._accepted

    @property
    def delivered(self) -> list[str]:
        """Ids of tasks that wait for their expansion."""
        return [task.id for task in self.dispatch.inbox._tasks]

    def fill_queues(self) -> None:
        """Have every task add only rows to full delay queues."""

        def check(_task: Task) -> None:
            raise BacklogFullError("the delay queue of edge-1", retry_after_s=60)

        self.full.names, self.full.check = {"edge-1"}, check
        self.replayed.set()

    async def read(self, function: Any, *args: Any) -> Any:
        return function(*args)

    def submit(self, data: bytes) -> list[Reply]:
        """Hand a body in; return where its reply comes."""
        replies: list[Reply] = []

        def answer(reply: Reply) -> None:
            replies.append(reply)
            self.news.set()

        self.admission.submit(data, self.client, answer)
        return replies

    def commit(self, number: int = 0, error: Exception | None = None) -> None:
        """Tell the admission that a task is saved, or cannot be."""
        self.admission.accepted(self.saved[number], 0 if error else 7, error)
