"""``purgeline cdni``: what it sends, and what it refuses before it sends anything."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from engine.cli import cdni
from engine.cli.cdni_client import CdniClient
from engine.cli.exits import FAILED, UsageError
from engine.cli.main import main
from engine.client.attempts import Answer, Call, Patience

TO = "https://dcdn.example.com/triggers"
KNOWN = ("--to", TO, "--cdn-id", "AS64496:1")


class Answering(CdniClient):
    """A client that sends nothing: what it would, it keeps, and has the answers ready."""

    sent: ClassVar[list[tuple[str, str, Any]]] = []
    status_word = "pending"

    def answer(self, call: Call, patience: Patience | None = None) -> Answer:
        self.sent.append((call.method, call.path, None if call.body is None else json.loads(call.body)))
        headers = {"location": "/triggers/1"}
        answer = {"trigger": {"type": "purge"}, "status": self.status_word, "triggers": [f"{TO}/1"]}
        answer["coll-failed"] = "/triggers/failed"
        return Answer(TO, 201, headers, json.dumps(answer).encode())


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> type[Answering]:
    monkeypatch.setattr(cdni, "CdniClient", Answering)
    for name in ("PURGELINE_CDNI_URL", "PURGELINE_CDN_ID", "PURGELINE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    Answering.sent, Answering.status_word = [], "pending"
    return Answering


def test_a_command_names_all_that_was_asked_for_and_the_cdns_that_it_came_by(
    answering: type[Answering], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("https://a.org/1", "--pattern", "https://a.org/*", "--case-sensitive", "--ccid", "c")
    more = ("--metadata-url", "https://m.org/", "--metadata-pattern", "https://m.org/*", "--via", "AS64496:0")
    assert main(["cdni", "invalidate", *words, *more, *KNOWN, "--json"]) == 0
    pattern = {"pattern": "https://a.org/*", "case-sensitive": True}
    trigger = {
        "type": "invalidate",
        "content.urls": ["https://a.org/1"],
        "content.patterns": [pattern],
        "content.ccid": ["c"],
        "metadata.urls": ["https://m.org/"],
        "metadata.patterns": [{**pattern, "pattern": "https://m.org/*"}],
    }
    assert answering.sent == [("POST", "", {"trigger": trigger, "cdn-path": ["AS64496:0", "AS64496:1"]})]
    assert json.loads(capsys.readouterr().out)["url"] == f"{TO}/1"


@pytest.mark.parametrize(
    ("word", "code"), [("complete", 0), ("processed", 0), ("failed", 1), ("canceled", 1)]
)
def test_the_exit_code_tells_how_it_went(word: str, code: int, answering: type[Answering]) -> None:
    answering.status_word = word
    assert main(["cdni", "purge", "https://a.org/1", *KNOWN, "--wait"]) == code
    assert main(["cdni", "status", f"{TO}/1", *KNOWN]) == code


def test_other_words_go_where_the_cdn_says(answering: type[Answering]) -> None:
    assert main(["cdni", "list", "--collection", "failed", *KNOWN]) == 0
    assert main(["cdni", "delete", f"{TO}/1", "2", *KNOWN]) == 0
    assert main(["cdni", "cancel", f"{TO}/1", "2", *KNOWN]) == 0
    assert [one[:2] for one in answering.sent[:-1]] == [
        ("GET", ""),
        ("GET", "/failed"),
        ("DELETE", "/1"),
        ("DELETE", "/2"),
    ]
    assert answering.sent[-1][2] == {"cancel": [f"{TO}/1", f"{TO}/2"], "cdn-path": ["AS64496:1"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("purge", "https://a.org/1"), "--to or $PURGELINE_CDNI_URL is needed"),
        (("purge", "https://a.org/1", "--to", "ftp://a"), "--to or --token"),
        (("purge", "https://a.org/1", "--to", TO), "--cdn-id or $PURGELINE_CDN_ID is needed"),
        (("purge", *KNOWN), "takes URLs, --pattern"),
        (("purge", "https://a.org/1", *KNOWN, "--via", "AS64496:1"), "loop"),
        (("status", *KNOWN), "takes the URL of a trigger"),
        (("status", "https://other.org/triggers/1", *KNOWN), "not below"),
        (("list", "--collection", "active", *KNOWN), "coll-active"),
        (("list", *KNOWN, "--cert", "/nowhere"), "--cert"),
        (("explode", *KNOWN), "there is no 'explode'"),
    ],
)
def test_what_cannot_be_asked_is_said(
    words: tuple[str, ...], said: str, answering: type[Answering], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["cdni", *words])
    assert (code > FAILED, said in capsys.readouterr().err) == (True, True)
    assert not [one for one in answering.sent if one[0] == "POST"]


def test_no_other_host_sees_the_token() -> None:
    client = CdniClient(TO, token="secret")
    for url in ("https://evil.org/triggers/1", "http://dcdn.example.com/triggers/1", "/elsewhere"):
        with pytest.raises(UsageError, match="not below"):
            client.status(url)
