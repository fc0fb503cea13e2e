"""Cases of ``Cache-Group-Invalidation``, and what each has to come to at the engine and at a Varnish.

A Varnish reads the field by expressions of its VCL, the engine by its own parser: what the engine takes, the
Varnish has to take, and as the same keys. Expressions are tried here as Python reads them.
"""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Final, NamedTuple

from engine.base.templates import render
from engine.errors import RequestError
from engine.intake.cache_groups import KEY_MAX_CHARS, groups_of, key_of

_GOOD: Final = (
    '"products"',
    '"products", "home"',
    '"a b", "c,d";x=1, "q\\"q", "b\\\\"',
    '"a";s="x, \\"y\\"";t=*a/b:c;d=1.5;i=-7;y=:YQ==:;b=?1;w=@1659578233;u=%"f%c3%bc", "z"',
    ", ".join(f'"{number:02}-{"g" * 29}"' for number in range(32)),
)
_SIGNS: Final = (
    *'",;=\\ :?@%*()\t\x00\x7fé\xffaZ09-._',
    '""',
    '"a"',
    ', "b"',
    '\\"',
    "\\\\",
    ";x=",
    ";x",
    '%"',
    "a" * 300,
    '"' * 50,
    '"a",' * 200,
    "¦",
    "%20",
    "host/",
)


def value(seed: int, number: int) -> str:
    """Return one case: the same for the same seed and number."""
    chosen = random.Random(f"groups:{seed}:{number}")
    text = chosen.choice(_GOOD)
    for _ in range(chosen.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        start = chosen.randint(0, len(text))
        end = min(len(text), start + chosen.choice((0, 0, 1, 1, 2, 5, 20)))
        way = chosen.randrange(6)
        if way == 0:
            text = text[:start]
        elif way == 1:
            text = text[:end] + text[start:]
        else:
            text = text[:start] + chosen.choice(_SIGNS) + text[end:]
    return text.strip(" \t")  # as every parser of heads hands it over


def keys_of(text: str) -> list[str] | None:
    """Return the keys that the engine purges for a value; None: it is ignored."""
    try:
        return [key for group in groups_of(text) if (key := key_of(group))] or None
    except RequestError:
        return None


class _Vcl(NamedTuple):
    """What the lines of Varnish do with the field."""

    whole: re.Pattern[str]
    steps: list[tuple[re.Pattern[str], str]]


@cache
def _vcl() -> _Vcl:
    lines = render(
        "purge/varnish.vcl.j2",
        node="n",
        purge_from=["127.0.0.1"],
        key_mode="xkey",
        tag_headers=None,
        is_parent=False,
        grace_s=None,
        group_reports=True,
    )
    whole = re.search(r'Cache-Group-Invalidation ~ \{"(.*)"\}\)', lines)
    words = re.search(
        r"= ((?:regsuball\()+)beresp\.http\.Cache-Group-Invalidation,(.*?)\);", lines, re.DOTALL
    )
    assert whole is not None
    assert words is not None
    texts = re.findall(r'\{"(.*?)"\}|"(.*?)"', words[2])
    given = [long or short for long, short in texts]
    assert len(given) == 2 * words[1].count("(")
    steps = [(re.compile(pattern), put) for pattern, put in zip(given[::2], given[1::2], strict=True)]
    return _Vcl(re.compile(whole[1]), steps)


def varnish_keys(text: str) -> list[str] | None:
    """Return the keys that a Varnish drops for a value; None: it drops nothing."""
    vcl = _vcl()
    if not vcl.whole.search(text):
        return None
    for pattern, put in vcl.steps:
        text = pattern.sub(put.replace("\\1", "\\g<1>"), text)
    return text.split()


def fault(text: str) -> str:
    """Return what is wrong with how the two read a value; empty: nothing."""
    keys = keys_of(text)
    if keys is None:
        return ""
    found = varnish_keys(text)
    if found is None or [key for key in dict.fromkeys(found) if len(key) <= KEY_MAX_CHARS] != keys:
        return f"a Varnish reads {found}, the engine {keys}"
    again = ", ".join('"' + re.sub(r'(["\\])', r"\\\1", group) + '"' for group in groups_of(text))
    return "" if groups_of(again) == groups_of(text) else f"written and read again it is {groups_of(again)}"
