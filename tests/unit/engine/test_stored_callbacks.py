"""Callbacks on their way from a store to the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.notify.stored import StoredCallbacks
from engine.tasks.records import Callback

if TYPE_CHECKING:
    from engine.notify.callbacks import CallbackJob


class Outbox:
    def __init__(self) -> None:
        self.jobs: list[CallbackJob] = []

    def add(self, job: CallbackJob) -> None:
        self.jobs.append(job)

    def waiting(self) -> list[tuple[int, int | str]]:
        return [job.key for job in self.jobs]


def test_a_job_knows_the_saver_that_drops_its_callback() -> None:
    outbox: Any = Outbox()
    callbacks = StoredCallbacks(outbox)
    callbacks.written(1, [Callback(7, "t", "http://a/", '{"task_id":"t"}')])
    (job,) = outbox.jobs
    assert job.key == (1, 7)
    assert (job.task_id, job.url, job.body) == ("t", "http://a/", b'{"task_id":"t"}')


def test_keys_of_all_savers_are_text() -> None:
    outbox: Any = Outbox()
    callbacks = StoredCallbacks(outbox)
    callbacks.written(0, [Callback("3:1-0", "t", "http://a/", "{}")])
    callbacks.written(1, [Callback(7, "u", "http://a/", "{}")])
    assert callbacks.keys() == {"3:1-0", "7"}
