"""Takes secrets out of what is shown or written down: the one place that knows what they look like.

Both ends use it: the agent on all that it answers and notes, the pipeline on all that it prints. A secret is
a password or token in a URL, the path of a webhook (whoever knows that can post there), a header that carries
one, and the value of a key that holds one, be it written as TOML, JSON or YAML.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

HIDDEN = "(hidden)"
URL_KEYS = {"url", "callback", "hook", "webhook", "alert"}  #: also as the end of a name, after ``_``
KEYS = {"secret", "password", "headers"}  #: whose value is one, in an answer's own objects

_NAME = r"""(?<![\w-])["']?(?:secret|sha256|password|passwd)["']?"""
_TEXT = r"""(?:"(?:[^"\\\n]|\\.)*"?|'(?:[^'\n]|'')*'?|[^\s,}\]]+)"""
_TABLE = r"""\{(?:"(?:[^"\\\n]|\\.)*"|[^}"])*\}?"""
_SCHEME = r"(?i:\b([a-z][a-z0-9+.-]*://))"
_WEB = r"""https?://[^\s/?#"'<>]*[/?#]"""
_REST = r"""(?!\(hidden\))[^\s"'<>]+"""
_WEB_KEY = rf"""(?<![\w-])["']?(?:[\w-]*[_-])?(?:{"|".join(sorted(URL_KEYS))})["']?"""
_HOOKS = r"(?:hooks?|webhooks?)"
#: What is found, and what stands there instead.
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Who and password in a URL; the user of an SSH login alone is none.
        (r"""(?!(?:ssh|sftp)://[^\s/?#"'<>:@]*@)""" + _SCHEME + r"""[^\s/?#"'<>]*@""", rf"\1{HIDDEN}@"),
        # A password with a slash in it: what follows the colon is no port.
        (_SCHEME + r"""[^\s/?#"'<>@]*:(?!\d+(?:[/?#\s"']|$))[^\s"'<>@]*@""", rf"\1{HIDDEN}@"),
        # The path of a URL that a key of this kind has, and of a webhook wherever it stands.
        (rf"(?i)({_WEB_KEY}\s*[:=]\s*[\"']?{_WEB}){_REST}", rf"\1{HIDDEN}"),
        (rf"(?i)\b(https?://(?:[\w-]+\.)*{_HOOKS}\.[^\s/?#\"'<>]*[/?#]){_REST}", rf"\1{HIDDEN}"),
        (rf"(?i)\b({_WEB})(?=(?:[\w.-]+/)*{_HOOKS}/){_REST}", rf"\1{HIDDEN}"),
        (
            r"""(?i)([?&](?:[\w.-]*[_.-])?(?:token|secret|passw(?:or)?d|api_?key|sig(?:nature)?|auth)=)[^&\s#"']+""",
            rf"\1{HIDDEN}",
        ),
        (r"""(?i)\b((?:proxy-)?authorization["']?\s*[:=]\s*["']?)[^"'\n]+""", rf"\1{HIDDEN}"),
        (
            rf"""(?<![\w-])(["']?headers["']?\s*[:=][ \t]*)(?:{_TABLE}|(?!\(hidden\))\S.*)""",
            rf"\1{HIDDEN}",
        ),
        (rf"""(?i)\b(x-[\w-]*(?:secret|token)["']?\s*[:=]\s*){_TEXT}""", rf"\1{HIDDEN}"),
        (rf"({_NAME}\s*=\s*){_TEXT}", rf"\1{HIDDEN}"),
        (rf"({_NAME}:[ \t]+){_TEXT}", rf"\1{HIDDEN}"),
    )
)


def redact(value: Any) -> Any:
    """Return *value*, a JSON-like document or a text, with the secrets in its texts replaced by `HIDDEN`."""
    if isinstance(value, str):
        for pattern, replacement in _RULES:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, dict):
        return {name: _value(str(name), inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(inner) for inner in value]
    return value


def _value(name: str, value: Any) -> Any:
    """Return the value of a key without secrets."""
    if name in KEYS and value:
        return HIDDEN
    if isinstance(value, str) and re.split("[_-]", name.lower())[-1] in URL_KEYS:
        mark = f"{name}="
        return redact(mark + value)[len(mark) :]
    return redact(value)
