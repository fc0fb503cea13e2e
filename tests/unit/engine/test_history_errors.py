"""What is wrong with a history, told by several threads."""

from engine.store.history import HistoryErrors


def test_a_page_that_lacks_something_says_so_although_another_one_was_whole() -> None:
    errors = HistoryErrors()
    first = errors.failed_reads
    errors.cannot_read("block 7 is damaged")
    assert errors.read(errors.failed_reads) == ""
    assert errors.text == ""
    assert errors.read(first) == "block 7 is damaged"
    errors.cannot_read("block 7 is damaged")
    errors.wrote()
    assert errors.read(first) == "block 7 is damaged"
