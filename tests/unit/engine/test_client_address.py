"""An engine's address: the plain form, which is read without urllib, and all others."""

from __future__ import annotations

import pytest

from engine.client.address import _parted, address_of
from engine.client.operations import quoted


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9181",
        "http://127.0.0.1",
        "https://purge.example.com",
        "https://purge.example.com:443/a/b-c_d~e.f",
        "http://a/",
        "http://a//",
        "http://a/b/",
        "http://a:0",
        "http://a:80/..",
        "http://a.b_c",
        "http://a:65535",
    ],
)
def test_a_plain_address_is_the_one_that_urllib_reads(url: str) -> None:
    assert address_of(url) == _parted(url)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://[::1]:9181/x", (False, "::1", 9181, "/x")),
        ("HTTPS://A.example:65535", (True, "a.example", 65535, "")),
        ("http://a/b//c/", (False, "a", None, "/b//c")),
        ("http://a/%20,b", (False, "a", None, "/%20,b")),
    ],
)
def test_other_addresses_are_read_too(url: str, parts: tuple[bool, str, int | None, str]) -> None:
    assert address_of(url)[1:] == parts


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "ftp://a",
        "http://",
        "http://a:b",
        "http://a:99999",
        "http://u@a",
        "http://a?b",
        "http://a b",
        "http://ä",
    ],
)
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each text is its own
        address_of(url)


@pytest.mark.parametrize(
    ("name", "segment"), [("a-Z_0.9~", "a-Z_0.9~"), ("a/b", "a%2Fb"), ("ä ", "%C3%A4%20"), ("", "")]
)
def test_a_name_is_quoted_as_a_segment(name: str, segment: str) -> None:
    assert quoted(name) == segment
