"""Cache-Group-Invalidation (RFC 9875) as a List of Strings (RFC 9651)."""

import re

import pytest

from engine.base.templates import folder
from engine.errors import RequestError
from engine.intake.cache_groups import FIELD_MAX_CHARS, SAFE_METHODS, groups_of, is_unsafe, key_of
from tests.fuzz import groups


@pytest.mark.parametrize(
    ("value", "groups"),
    [
        ('"eurovision-results", "australia"', ["eurovision-results", "australia"]),  # RFC 9875, section 3
        ('"scripts"', ["scripts"]),
        ('"a","a" , "A"', ["a", "A"]),
        ('"a"\t,\t"b"', ["a", "b"]),
        (r'"with space", "a,b", "q\"", "b\\"', ["with space", "a,b", 'q"', "b\\"]),
        ('"a";x, "b"; y=1;z="p, q"', ["a", "b"]),
        (
            '"a";i=-1;d=1.5;t=*a/b:c;s="x";y=:YQ==:;b=?0;w=@1659578233;u=%"f%c3%bc", "b"',
            ["a", "b"],
        ),
        ("", []),
        ("  ", []),
    ],
)
def test_the_strings_of_a_list_are_its_groups(value: str, groups: list[str]) -> None:
    assert groups_of(value) == groups


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "1",
        "?1",
        '("a")',
        '"a", b',
        '"a',
        '"a\\',
        '"a\\n"',
        '"a" "b"',
        '"a",',
        ',"a"',
        '"a",,"b"',
        '"a";',
        '"a";X',
        '"a" ;x',
        '"a";x=',
        '"a";x=1.',
        '"a";x=1234567890123456',
        '"a";x="y',
        '"a";x=?2',
        '"a";x=%"%FC"',
        '"\x7f"',
        '"é"',
        '"a\tb"',
        "'a'",
    ],
)
def test_a_list_with_anything_wrong_in_it_is_none(value: str) -> None:
    with pytest.raises(RequestError, match="takes a list of strings, such as"):
        groups_of(value)


def test_there_is_room_for_more_than_the_rfc_asks_for_and_an_end() -> None:
    names = [f"{number:02}-{'g' * 29}" for number in range(32)]
    assert groups_of(", ".join(f'"{name}"' for name in names)) == names
    with pytest.raises(RequestError, match=f"at most {FIELD_MAX_CHARS}"):
        groups_of('"' + "g" * FIELD_MAX_CHARS + '"')


def test_a_key_is_one_word_whatever_a_group_holds() -> None:
    assert [key_of(group) for group in ("products", "a b", "a,b", 'a"b', "a\\b", "a%20b/c")] == [
        "products",
        "a%20b",
        "a%2Cb",
        "a%22b",
        "a%5Cb",
        "a%20b/c",
    ]
    assert [len(key_of(group)) for group in ("g" * 1024, "g" * 1025, " " * 342)] == [1024, 0, 0]


def test_methods_are_safe_by_the_registry_and_the_lines_of_varnish_know_the_same() -> None:
    assert not any(is_unsafe(method) for method in ("GET", "HEAD", "OPTIONS", "TRACE"))
    assert all(is_unsafe(method) for method in ("POST", "PUT", "PATCH", "DELETE", "MKCOL", "get"))
    lines = (folder() / "purge/varnish.vcl.j2").read_text()
    found = re.search(r'bereq\.method !~ "\^\(([A-Z|]+)\)\$"', lines)
    assert found is not None
    assert set(found[1].split("|")) == SAFE_METHODS


def test_a_varnish_reads_what_the_engine_reads() -> None:
    """``python -m tests.fuzz --kind groups`` tries many more, at an engine too."""
    faults = {
        text: why
        for text in (groups.value(7, number) for number in range(2000))
        if (why := groups.fault(text))
    }
    assert faults == {}
    assert groups.keys_of('"a b"') == groups.varnish_keys('"a b"') == ["a%20b"]
    display = (
        r'"a";x=%"b\", "c";y="d, \"e", "f\"\\"'  # a display string has no escapes, so it ends at its \\"
    )
    assert groups.keys_of(display) == groups.varnish_keys(display) == ["a", "c", "f%22%5C"]
    assert groups.varnish_keys("products") is groups.varnish_keys('"a" "b"') is None
