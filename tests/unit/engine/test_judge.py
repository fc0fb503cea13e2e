"""Which answers count as the node's own."""

from __future__ import annotations

import pytest

from engine.config.tables import Driver, NodeConfig
from engine.nodes.answer import Answer
from engine.nodes.evidence import Whose
from engine.nodes.judge import Judge
from engine.nodes.readings import Readings
from engine.observe.counters import Stats
from engine.tasks.words import Operation, Outcome
from tests.fakes.shares import items_of

PURGE = Operation.PURGE_URL
TARGET = "http://a.com/1"
ATS = (
    b"HTTP/1.1 200 Ok\r\nDate: x\r\nConnection: keep-alive\r\nServer: ATS/9.2.5\r\nContent-Length: 0\r\n\r\n"
)
ORIGIN = b"HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Length: 0\r\n\r\n"
NGINX_PAGE = (
    b"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n"
    b"<center><h1>404 Not Found</h1></center>\r\n"
    b"<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
)
NGINX = (
    b"HTTP/1.1 404 Not Found\r\nServer: nginx/1.22.1\r\nDate: x\r\nContent-Type: text/html\r\n"
    b"Content-Length: %d\r\nConnection: keep-alive\r\n\r\n" % len(NGINX_PAGE)
) + NGINX_PAGE


class Clock:
    s = 100.0

    def __call__(self) -> float:
        return self.s


def judge(driver: Driver = "ats", clock: Clock | None = None, **extra: str) -> Judge:
    table = {"name": "edge-1", "driver": driver, "url": "http://127.0.0.1", **extra}
    return Judge(NodeConfig(**table), clock or Clock(), 300)  # type: ignore[arg-type]


def answer(text: bytes, status: int = 200) -> Answer:
    return Answer(status, 0, keep_alive=True, text=text)


def sort(judging: Judge, *answers: Answer) -> tuple[list[int], list[tuple[int, Outcome]]]:
    """Return which of so many purges were acked, and what became of the others."""
    items = [
        item for each in range(len(answers)) for item in items_of(f"http://a.com/{each}", operation=PURGE)
    ]
    config = NodeConfig(name="edge-1", driver=judging._config.driver, url="http://127.0.0.1")
    acked, absent, rest = Readings(config, judging, Stats()).sort(items, list(answers), 0.1)
    done = sorted(map(items.index, (*acked, *absent)))
    return done, [(items.index(item), outcome) for item, outcome, _ in rest]


def test_an_answer_without_a_text_bears_the_mark() -> None:
    assert judge().whose(PURGE, TARGET, answer(b"")) is Whose.OWN


def test_what_was_found_to_be_own_once_is_known() -> None:
    judging = judge()
    assert not judging.knows(PURGE, answer(ATS))
    assert judging.whose(PURGE, TARGET, answer(ATS)) is Whose.OWN
    assert judging.knows(PURGE, answer(ATS))
    assert not judging.knows(Operation.PREFETCH, answer(ATS))
    assert judging.rests_on == "shape"
    judging.doubt(is_untold=False)
    assert not judging.knows(PURGE, answer(ATS))
    assert judging.rests_on == "none"


def test_the_answers_of_several_connections_are_known_beside_each_other() -> None:
    judging = judge()
    texts = [ATS.replace(b"Date: x", b"Date: %d" % number) for number in range(4)]
    for text in texts:
        assert judging.owns_run(PURGE, TARGET, answer(text))
    assert all(judging.knows(PURGE, answer(text)) for text in texts)
    assert not judging.owns_run(PURGE, TARGET, answer(ORIGIN))


def test_the_word_of_the_user_asks_for_no_sign() -> None:
    judging = judge(evidence="any")
    assert (judging.sign, judging.rests_on) == (None, "any")
    judging.has_mark()
    judging.doubt(is_untold=False)
    assert judging.rests_on == "any"


def test_a_proof_counts_for_its_host_and_for_its_time() -> None:
    clock = Clock()
    judging = judge("nginx", clock)
    judging.prove(TARGET)
    assert judging.rests_on == "prober"
    told = [judging.is_proven("http://a.com/2"), judging.is_proven("http://b.com/2"), judging.is_any_proven]
    clock.s += 301
    assert told == [True, False, True]
    assert [judging.is_proven("http://a.com/2"), judging.is_any_proven] == [False, False]


def test_one_forwarded_answer_in_the_middle_of_a_run_is_not_acked() -> None:
    own, forwarded = answer(ATS), answer(ORIGIN)
    acked, rest = sort(judge(), own, own, forwarded, own)
    assert acked == [0, 1, 3]
    assert rest == [(2, Outcome.UNPROVEN)]


def test_a_forwarded_absence_and_refusal_is_no_answer_of_the_node() -> None:
    answers = [answer(ORIGIN, 404), answer(ORIGIN, 405), answer(ORIGIN, 400), answer(ORIGIN, 503)]
    assert sort(judge(), *answers)[1] == [
        (0, Outcome.UNPROVEN),
        (1, Outcome.UNPROVEN),
        (2, Outcome.UNPROVEN),
        (3, Outcome.RETRY),
    ]


@pytest.mark.parametrize("is_proven", [False, True])
def test_what_bytes_do_not_tell_counts_while_a_proof_is_valid(is_proven: bool) -> None:
    judging = judge("nginx")
    if is_proven:
        judging.prove(TARGET)
    acked, rest = sort(judging, answer(NGINX, 404), answer(NGINX, 404))
    assert acked == ([0, 1] if is_proven else [])
    assert [outcome for _, outcome in rest] == ([] if is_proven else [Outcome.UNPROVEN] * 2)


def test_reasons_say_what_to_change() -> None:
    judging = judge("nginx")
    forwarded, untold = judging.reason(Whose.FORWARDED, 200), judging.reason(Whose.UNTOLD, 404)
    assert "a server behind edge-1 answered 200" in forwarded
    assert 'let it send "Purgeline-Cache: nginx edge-1"' in untold
    assert all("purgeline render nginx" in reason for reason in (forwarded, untold))
    assert "Purgeline-Nonce" in judging.reason_without_nonce()


def test_a_bare_400_is_said_to_be_what_it_may_be() -> None:
    """A Varnish gives it to a head that is too long for it, and closes; a server behind a pipe may, too."""
    judging = judge("varnish")
    bare = answer(b"HTTP/1.1 400 Bad Request\r\n\r\n", 400)
    assert judging.whose(PURGE, TARGET, bare) is Whose.FORWARDED
    assert "or edge-1 cannot take the request" in judging.reason(Whose.FORWARDED, 400)
    assert "cannot take" not in judging.reason(Whose.FORWARDED, 404)


def test_the_page_of_a_purge_by_nginx_proves_its_host_and_is_looked_at_for_each_target() -> None:
    judging = judge("nginx")
    page = b"<html><head><title>Successful purge</title></head><br>Key : a.com/1\r\n</html>"
    head = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
    purged = answer(head % len(page) + page)
    assert judging.whose(PURGE, "http://a.com/2", purged) is not Whose.OWN
    assert not judging.is_proven("http://a.com/2")
    assert judging.whose(PURGE, TARGET, purged) is Whose.OWN
    assert judging.is_proven("http://a.com/2")
    assert judging.rests_on == "shape"
    assert not judging.knows(PURGE, purged)
    assert not judging.owns_run(PURGE, TARGET, purged)
