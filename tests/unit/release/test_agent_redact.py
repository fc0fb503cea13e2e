"""release.agent.redact: secrets are taken out of every spelling, and nothing else is."""

import pytest

from release.agent.redact import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('secret = "a"', "secret = (hidden)"),
        ('-"secret" = "a"', '-"secret" = (hidden)'),
        (' sha256="b"', " sha256=(hidden)"),
        (
            '{name = "cms", sha256 = "9f86", scopes = []}',
            '{name = "cms", sha256 = (hidden), scopes = []}',
        ),
        ('+headers = {X = "c}"}\nx = 1', "+headers = (hidden)\nx = 1"),
        ('"headers": {"X-Purge-Secret": "me"}, "url": 1', '"headers": (hidden), "url": 1'),
        ("headers: {X: me}", "headers: (hidden)"),
        ("sha256: 9f86d0\nname: cms", "sha256: (hidden)\nname: cms"),
        ("'password': 'it''s'", "'password': (hidden)"),
        ("headers:\n  X-Purge-Secret: me\n", "headers:\n  X-Purge-Secret: (hidden)\n"),
        ("secret_garden = 1", "secret_garden = 1"),
        ("SHA256:abc has sha256 abc, not def", "SHA256:abc has sha256 abc, not def"),
        ("redis://:pw@h:6379/0", "redis://(hidden)@h:6379/0"),
        ('url = "redis+sentinel://u:p@ss@h/0"', 'url = "redis+sentinel://(hidden)@h/0"'),
        ("redis://:a/b@h:1", "redis://(hidden)@h:1"),
        ("HTTPS://TOKEN@h/x", "HTTPS://(hidden)@h/x"),
        ("ssh://deploy@h/srv", "ssh://deploy@h/srv"),
        ("ssh://deploy:pw@h/srv", "ssh://(hidden)@h/srv"),
        ("http://h:80/a@b and http://h/@c", "http://h:80/a@b and http://h/@c"),
        ("https://h/?a=1&access_token=x&b=2", "https://h/?a=1&access_token=(hidden)&b=2"),
        ("https://h/?monkey=1&token_count=2", "https://h/?monkey=1&token_count=2"),
        ("curl -H 'Authorization: Bearer abc' http://h", "curl -H 'Authorization: (hidden)' http://h"),
        ('url = "https://alerts.example/T0/B0/s3cret"', 'url = "https://alerts.example/(hidden)"'),
        (
            "+  url: https://alerts.example/T0/s3cret\n+  x: 1",
            "+  url: https://alerts.example/(hidden)\n+  x: 1",
        ),
        ('{"alert_url": "http://a/s3cret", "b": 1}', '{"alert_url": "http://a/(hidden)", "b": 1}'),
        ("callback=https://cms.example/done?key=s3cret", "callback=https://cms.example/(hidden)"),
        ("curl -d x https://hooks.example/T000/B000/s3cret", "curl -d x https://hooks.example/(hidden)"),
        ("POST https://chat.example/api/webhooks/1/s3cret: 404", "POST https://chat.example/(hidden) 404"),
        ('url = "http://127.0.0.1:6081"', 'url = "http://127.0.0.1:6081"'),
        ("https://packages.example/purgeline/index.json", "https://packages.example/purgeline/index.json"),
        ("a@b.example.com, deploy@host", "a@b.example.com, deploy@host"),
    ],
)
def test_a_secret_is_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


def test_documents_are_gone_through() -> None:
    found = {"a": ["redis://:pw@h", 1, None], "headers": {"X": "y"}, "secret": "", "sha256": "of a file"}
    assert redact(found) == {
        "a": ["redis://(hidden)@h", 1, None],
        "headers": "(hidden)",
        "secret": "",
        "sha256": "of a file",
    }


def test_the_path_of_a_webhook_is_hidden_in_an_object() -> None:
    found = {"alert": {"url": "https://alerts.example/T0/B0/s3cret"}, "node_count": 1, "url": "sqlite:"}
    assert redact(found) == {
        "alert": {"url": "https://alerts.example/(hidden)"},
        "node_count": 1,
        "url": "sqlite:",
    }
