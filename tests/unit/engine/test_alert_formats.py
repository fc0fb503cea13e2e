"""Alerts as their receivers take them."""

import json

import pytest

from engine.config.load import parse
from engine.errors import ConfigError
from engine.notify import formats
from engine.notify.formats import Alert
from engine.notify.mail import mail_of

AT = 1_800_000_000.0
EDGE: dict[str, str | int | float] = {"node": "edge-1", "layer": "edge"}
DOWN = Alert("node:edge-1", "error", "edge-1 is <down>\n& away", {**EDGE, "away_s": 7}, AT, "h1")
DOWN.since, DOWN.changed = AT - 720, "goes on for 12 min"
UP = Alert("node:edge-1", "resolved", "edge-1 is back", EDGE, AT, "h1", since=AT - 9)


def test_alertmanager_tells_alerts_apart_by_what_stays_the_same() -> None:
    [down, up] = json.loads(formats.alertmanager([DOWN, UP], AT + 1))
    named = {"alertname": "PurgelineNode", "instance": "h1", "key": "node:edge-1"}
    assert down["labels"] == up["labels"] == {**named, **EDGE}
    assert down["annotations"]["severity"] == "error"
    assert down["annotations"]["away_s"] == "7"
    assert (down["startsAt"], up["endsAt"]) == ("2027-01-15T07:48:00.000Z", "2027-01-15T08:00:00.000Z")
    assert down["endsAt"] == "2027-01-15T08:04:01.000Z"  # four minutes on, unless somebody says so again


def test_an_alert_of_a_node_has_its_label_without_facts_too() -> None:
    [alert] = json.loads(formats.alertmanager([Alert("canary:edge-2", "error", "m", {}, AT, "h1")], AT))
    assert alert["labels"]["node"] == "edge-2"


def test_slack_gets_text_in_which_nothing_of_the_message_is_markup() -> None:
    text = json.loads(formats.slack(DOWN))["text"]
    assert "*error* edge-1 is &lt;down&gt;\n&amp; away" in text
    assert "goes on for 12 min (node=edge-1 layer=edge away_s=7)" in text


def test_mails_of_one_key_are_a_thread_and_a_message_cannot_add_a_header() -> None:
    down, up = (mail_of(alert, "a@example.com", ["b@example.com", "c@example.com"]) for alert in (DOWN, UP))
    assert down["Subject"] == "purgeline: error: edge-1 is <down> & away"
    assert down["References"] == up["References"]
    assert down["To"] == "b@example.com, c@example.com"
    assert "changed:  goes on for 12 min" in down.get_content()
    assert "since:    2027-01-15T07:48:00.000Z" in down.get_content()


@pytest.mark.parametrize(("seconds", "text"), [(7.2, "7 s"), (720, "12 min"), (12600, "3.5 h")])
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert formats.span(seconds) == text


MAIL = {"smtp_url": "smtp://127.0.0.1:25", "mail_from": "a@example.com", "mail_to": ["b@example.com"]}


@pytest.mark.parametrize(
    ("alert", "says"),
    [
        ({"format": "slack"}, "alert.format: 'slack' needs alert.url"),
        ({"format": "slak", "url": "http://a/"}, "takes purgeline, alertmanager, slack"),
        ({**MAIL, "mail_to": []}, "go together; missing: mail_to"),
        ({"mail_to": ["b@example.com"]}, "missing: smtp_url, mail_from"),
        ({**MAIL, "mail_from": "a@example.com\nBcc: x@example.com"}, "alert.mail_from"),
        ({**MAIL, "mail_to": ["ops"]}, "alert.mail_to: 'ops' is no mail address"),
        ({**MAIL, "smtp_url": "mail.example.com"}, "is no smtp://"),
        ({**MAIL, "smtp_url": "smtps://u:secret@:25"}, "is no smtp://"),
        ({**MAIL, "smtp_url": "smtp://u:secret@mail"}, "a password goes over smtps://"),
    ],
)
def test_a_table_by_which_nobody_could_be_told_is_refused(alert: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse({"alert": alert})
    assert says in str(refused.value)
    assert "secret" not in str(refused.value)
