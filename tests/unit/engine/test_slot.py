"""The place of an answer."""

from __future__ import annotations

from engine.intake.replies import Reply
from engine.intake.slot import Slot


class Connection:
    flushed = 0

    def flush(self) -> None:
        self.flushed += 1


def test_an_answer_is_kept_in_its_place_and_the_connection_told() -> None:
    connection = Connection()
    slot = Slot(connection, is_last=False)
    reply = Reply(200, b"")
    slot(reply)
    assert slot.reply is reply
    assert connection.flushed == 1
