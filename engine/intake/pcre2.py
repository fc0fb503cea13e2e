"""Whether PCRE2, the library by which caches match, can read a pattern: asked where it is installed.

A pattern that a cache cannot read would fail there, after it was accepted. Without the library that is how it
goes: the cache answers 400. Compiling takes 2 to 20 µs; patterns are not matched here.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

_LIBRARY: Final = "libpcre2-8.so.0"
_MESSAGE_BYTES: Final = 256


def _load() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    library.pcre2_compile_8.restype = ctypes.c_void_p
    library.pcre2_compile_8.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint32,
        ctypes.POINTER(ctypes.c_int),
        ctypes.POINTER(ctypes.c_size_t),
        ctypes.c_void_p,
    ]
    library.pcre2_code_free_8.argtypes = [ctypes.c_void_p]
    library.pcre2_code_free_8.restype = None
    library.pcre2_get_error_message_8.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    return library


_library: Final = _load()


def is_installed() -> bool:
    """Tell whether patterns can be checked."""
    return _library is not None


def refusal(pattern: str) -> str | None:
    """Return why PCRE2 cannot read *pattern*, which is ASCII; None when it can, or is not installed."""
    if _library is None:
        return None
    text = pattern.encode()
    code, offset = ctypes.c_int(), ctypes.c_size_t()
    compiled = _library.pcre2_compile_8(text, len(text), 0, ctypes.byref(code), ctypes.byref(offset), None)
    if compiled:
        _library.pcre2_code_free_8(compiled)
        return None
    message = ctypes.create_string_buffer(_MESSAGE_BYTES)
    _library.pcre2_get_error_message_8(code, message, _MESSAGE_BYTES)
    return f"{message.value.decode('ascii', 'replace')} (at character {offset.value})"
