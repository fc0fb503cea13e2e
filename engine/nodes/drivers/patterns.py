r"""Regular expressions of clients as parts of a longer one. Pure.

A client's pattern stands for the path behind the first slash, so it is sent as one group: of ``foo|bar`` both
begin there. The group holds whatever PCRE2 takes:

- a pattern that ends within ``\Q`` would quote the end of the group; the quotation is ended before it;
- a comment of the extended mode (``(?x)``) at the end would hide it; the comment is left out;
- a parenthesis that closes more than was opened, as in ``foo)|(bar``, would end the group. Such a pattern is
  none by itself, and goes without a group: then the cache finds the parenthesis, and refuses it.

Groups within each other take stack when a cache reads the pattern: a Varnish with its default stack of a
thread dies of 80 of them, and loses all it has (measured on 7.1). More than `NESTED_MAX` are not sent.

PCRE2 is not asked here, since it need not be installed: see `engine.intake.pcre2`. `tests.unit` compares the
two on random patterns.
"""

from __future__ import annotations

import functools
import re
from typing import Final

NESTED_MAX: Final = 40
_PLAIN: Final = re.compile(r"[^()\[\\#]*")  # nothing that could end a group, or hide its end
_OPTIONS: Final = re.compile(r"\(\?(\^?)([A-Za-z]*)(?:-([A-Za-z]*))?([:)])")
_VERB: Final = re.compile(r"\(\*(?:[A-Z]|:)[^)]*")
_CALLOUT: Final = re.compile(r"""\(\?C([`'"^%#${])""")
_CLASS_START: Final = re.compile(r"\[(?:\\E|\\Q\\E)*\^?(?:\\E|\\Q\\E)*")
_POSIX_NAME: Final = re.compile(r"\[([:.=])(?:\\[\]\\]|(?!\[\1|\]|\1\]).)*\1\]")


@functools.lru_cache(1024)
def grouped(pattern: str) -> str:
    """Return *pattern* as a group of a regular expression in which more stands before it."""
    if _PLAIN.fullmatch(pattern):
        return f"(?:{pattern})"
    return _Scan(pattern).grouped()


@functools.lru_cache(1024)
def nesting(pattern: str) -> int:
    """Return how many groups of *pattern* are open at a time, at most."""
    if _PLAIN.fullmatch(pattern):
        return 0
    scan = _Scan(pattern)
    scan.grouped()
    return scan.deepest


class _Scan:
    """One look at a pattern, from its start."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._open: list[bool] = []  # of each open group: whether what is around it is extended
        self.deepest = 0  #: open groups, at most
        self._is_extended = False
        self._tail = ""

    def grouped(self) -> str:
        """See the module."""
        pattern = self._pattern
        at = 0
        while at < len(pattern):
            sign = pattern[at]
            if sign == "\\":
                at = self._escape(at)
            elif sign == "[":
                at = self._end_of_class(at)
            elif sign == "(":
                at = self._group(at)
                self.deepest = max(self.deepest, len(self._open))
            elif sign == ")":
                if not self._open:
                    return pattern
                self._is_extended = self._open.pop()
                at += 1
            elif sign == "#" and self._is_extended:
                pattern = pattern[:at]
            else:
                at += 1
        return f"(?:{pattern}{self._tail})"

    def _escape(self, at: int) -> int:
        r"""Return where what is behind an escape begins; ``\Q`` quotes as far as ``\E``, or to the end."""
        follows = self._pattern[at + 1 : at + 2]
        if follows != "Q":
            return at + (3 if follows == "c" else 2)
        end = self._pattern.find("\\E", at + 2)
        if end >= 0:
            return end + 2
        self._tail = "\\E"
        return len(self._pattern)

    def _end_of_class(self, at: int) -> int:
        """Return where what is behind a class of characters begins; a bracket at its start is one of them."""
        pattern = self._pattern
        start = _CLASS_START.match(pattern, at)
        assert start is not None
        at = start.end()
        is_first = True
        while at < len(pattern) and (is_first or pattern[at] != "]"):
            is_first = False
            if pattern[at] == "\\":
                at = self._escape(at)
            elif name := _POSIX_NAME.match(pattern, at):
                at = name.end()
            else:
                at += 1
        return at + 1

    def _group(self, at: int) -> int:
        """Return where what a parenthesis opens begins, or what is behind that, when it is no group."""
        pattern = self._pattern
        if pattern.startswith("(?#", at):
            end = pattern.find(")", at)
            return end + 1 if end >= 0 else len(pattern)
        if verb := _VERB.match(pattern, at):
            return verb.end() + 1
        if options := _OPTIONS.match(pattern, at):
            return self._set_options(options)
        self._open.append(self._is_extended)
        if callout := _CALLOUT.match(pattern, at):
            return self._end_of_callout(callout)
        return at + 1

    def _set_options(self, options: re.Match[str]) -> int:
        """Read ``(?x)`` or ``(?x-i:``; return where what is behind that begins."""
        resets, on, off, end = options.groups()
        is_extended = self._is_extended
        if resets or "x" in (off or ""):
            is_extended = False
        if "x" in on and "x" not in (off or ""):
            is_extended = True
        if end == ":":
            self._open.append(self._is_extended)
        self._is_extended = is_extended
        return options.end()

    def _end_of_callout(self, callout: re.Match[str]) -> int:
        """Return the end of a callout's text, in which a delimiter is written twice."""
        delimiter = callout[1].replace("{", "}")
        at = self._pattern.find(delimiter, callout.end())
        while at >= 0 and self._pattern.startswith(delimiter, at + 1):
            at = self._pattern.find(delimiter, at + 2)
        return at + 1 if at >= 0 else len(self._pattern)
