"""Takes secrets out of what is shown or written down: the one place that knows what they look like.

Both ends use it: the agent on all that it answers and notes, the pipeline on all that it prints. A secret is
a password or token in a URL, a header that carries one, and the value of a key that holds one, be it written
as TOML, JSON or YAML.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

HIDDEN = "(hidden)"
KEYS = {"secret", "password", "headers"}  #: whose value is one, in an answer's own objects

_NAME = r"""(?<![\w-])["']?(?:secret|sha256|password|passwd)["']?"""
_TEXT = r"""(?:"(?:[^"\\\n]|\\.)*"?|'(?:[^'\n]|'')*'?|[^\s,}\]]+)"""
_TABLE = r"""\{(?:"(?:[^"\\\n]|\\.)*"|[^}"])*\}?"""
_SCHEME = r"(?i:\b([a-z][a-z0-9+.-]*://))"
#: What is found, and what stands there instead.
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Who and password in a URL; the user of an SSH login alone is none.
        (r"""(?!(?:ssh|sftp)://[^\s/?#"'<>:@]*@)""" + _SCHEME + r"""[^\s/?#"'<>]*@""", rf"\1{HIDDEN}@"),
        # A password with a slash in it: what follows the colon is no port.
        (_SCHEME + r"""[^\s/?#"'<>@]*:(?!\d+(?:[/?#\s"']|$))[^\s"'<>@]*@""", rf"\1{HIDDEN}@"),
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
        return {name: HIDDEN if name in KEYS and inner else redact(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(inner) for inner in value]
    return value
