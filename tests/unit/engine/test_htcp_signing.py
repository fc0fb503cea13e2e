"""Signatures of HTCP messages: what they cover, when they hold, and the file of secrets."""

import base64
import re
from pathlib import Path

import pytest

from engine.config.doors import HtcpDoorConfig
from engine.doors.htcp.key_file import check_key_files, read_keys
from engine.doors.htcp.messages import CLR, MalformedError, answer_to, read_head
from engine.doors.htcp.signing import AGE_MAX_S, BadSignatureError, Signing, UnsignedError, ends_of, packed
from engine.errors import ConfigError
from tests.fakes.htcp_clients import Signed, clr, data, signed, specifier

SECRET = bytes(range(64))
THERE, HERE = ("10.0.0.9", 4827), ("10.0.0.1", 4827)
NOW = 1_800_000_000.0
SECTION = data(CLR, bytes(2) + specifier("http://img.example.com/a"))
SIGNING = Signing({b"wiki": SECRET}, 30)


def ends(there: tuple[str, int] = THERE, here: tuple[str, int] = HERE) -> bytes:
    return ends_of(packed(there[0]), there[1], packed(here[0]), here[1])


def message(signed_at: float = NOW, *, lasts_s: float = 60, name: bytes = b"wiki") -> bytes:
    return signed(SECTION, Signed(SECRET, name, signed_at, lasts_s), THERE, HERE)


def test_a_signature_of_rfc_2756_holds() -> None:
    assert SIGNING.check(message(), 4 + len(SECTION), ends(), NOW) == b"wiki"


def test_every_octet_that_is_covered_counts() -> None:
    """Addresses, ports, versions, DATA, the times and the name; LENGTH of the message is not covered."""
    good, end = message(), 4 + len(SECTION)
    for at in range(2, len(good)):
        changed = bytearray(good)
        changed[at] ^= 1
        with pytest.raises((BadSignatureError, MalformedError, UnsignedError)):
            SIGNING.check(bytes(changed), end, ends(), NOW)
    for there, here in (
        (("10.0.0.8", 4827), HERE),
        (("10.0.0.9", 4828), HERE),
        (THERE, ("10.0.0.2", 4827)),
        (THERE, ("10.0.0.1", 4828)),
    ):
        with pytest.raises(BadSignatureError, match="not that of key 'wiki'"):
            SIGNING.check(good, end, ends(there, here), NOW)


@pytest.mark.parametrize(
    ("signed_at", "lasts_s", "why"),
    [
        (NOW + 30, 60, None),
        (NOW + 32, 60, "in the future: clocks differ"),
        (NOW - 80, 60, None),
        (NOW - 92, 60, "expired"),
        (NOW - AGE_MAX_S - 29, 86_400, None),
        (NOW - AGE_MAX_S - 32, 86_400, "at most 300 s count"),
    ],
)
def test_a_signature_holds_for_a_bounded_time_whatever_its_sender_says(
    signed_at: float, lasts_s: float, why: str | None
) -> None:
    """Clocks may differ by 30 s."""
    check = (message(signed_at, lasts_s=lasts_s), 4 + len(SECTION), ends(), NOW)
    if why is None:
        assert SIGNING.check(*check) == b"wiki"
    else:
        with pytest.raises(BadSignatureError, match=why):
            SIGNING.check(*check)


def test_no_signature_and_an_unknown_key_are_told_apart() -> None:
    plain = clr("http://img.example.com/a")
    with pytest.raises(UnsignedError):
        SIGNING.check(plain, read_head(plain).end, ends(), NOW)
    with pytest.raises(BadSignatureError, match="key 'other' is not in key_file"):
        SIGNING.check(message(name=b"other"), 4 + len(SECTION), ends(), NOW)


def test_an_auth_that_is_cut_is_no_message() -> None:
    """Each length in it is held to the one around it."""
    good, end = message(), 4 + len(SECTION)
    for size in range(end + 3, len(good)):
        with pytest.raises(MalformedError):
            SIGNING.check(good[:size], end, ends(), NOW)


def test_answers_are_signed_by_the_same_rules() -> None:
    answer = answer_to(read_head(message()), 0)
    auth = SIGNING.auth_of(answer, b"wiki", ends(HERE, THERE), NOW)
    assert SIGNING.check(answer + auth, len(answer), ends(HERE, THERE), NOW) == b"wiki"
    expected = signed(answer[4:], Signed(SECRET, b"wiki", NOW, 60), HERE, THERE)
    assert expected[4:] == answer[4:] + auth


def test_an_ipv4_client_of_an_ipv6_socket_signs_its_ipv4_address() -> None:
    assert packed("::ffff:10.0.0.9") == packed("10.0.0.9")
    assert len(packed("fe80::1%eth0")) == 16


def write(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_file_of_keys_has_comments_and_a_key_a_line(tmp_path: Path) -> None:
    text = f"# HTCP\n\nwiki {base64.b64encode(SECRET).decode()}\n  squid-1\tMDEyMzQ1Njc4OWFiY2RlZg==  \n"
    assert read_keys("door 'x'", write(tmp_path, text)) == {b"wiki": SECRET, b"squid-1": b"0123456789abcdef"}


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("wiki MDEyMzQ1Njc4OWFiY2RlZg==", 0o640, "may be read by others; chmod 600"),
        ("", 0o600, "has no key"),
        ("wiki", 0o600, "line 1: takes a name and a secret in base64"),
        ("wiki sécret!", 0o600, "line 1: the secret is not base64"),
        ("wiki c2hvcnQ=", 0o600, "line 1: the secret has 5 octets, at least 16"),
        ("w MDEyMzQ1Njc4OWFiY2RlZg==\nw MDEyMzQ1Njc4OWFiY2RlZg==", 0o600, "line 2: this name has been there"),
        (None, 0, "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_of_keys_is_told_without_its_secrets(
    tmp_path: Path, text: str | None, mode: int, why: str
) -> None:
    path = str(tmp_path / "none") if text is None else write(tmp_path, text, mode)
    door = HtcpDoorConfig(listen="127.0.0.1:1", key_file=path)
    with pytest.raises(ConfigError, match=re.escape(why)) as told:
        check_key_files([HtcpDoorConfig(listen="127.0.0.1:2"), door])
    assert not text or not any(word in str(told.value) for word in ("MDEy", "c2hv", "sécret"))
