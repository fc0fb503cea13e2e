"""PCRE2, the library by which caches match, where it is installed.

A pattern that a cache cannot read would fail there, after it was accepted. Without the library that is how it
goes: the cache answers 400. Compiling takes 2 to 20 µs. Patterns are matched for the history alone, with a
limit, because a client chose them: `matches` gives up after some milliseconds. The GIL is free meanwhile.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

_LIBRARY: Final = "libpcre2-8.so.0"
_MESSAGE_BYTES: Final = 256
_STEPS_MAX: Final = 100_000  #: of one match; some milliseconds
_HEAP_MAX_KIB: Final = 8192  #: of one match
_NO_MATCH: Final = -1


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
    for make in (library.pcre2_match_context_create_8, library.pcre2_match_data_create_8):
        make.restype = ctypes.c_void_p
    library.pcre2_match_context_create_8.argtypes = [ctypes.c_void_p]
    library.pcre2_match_data_create_8.argtypes = [ctypes.c_uint32, ctypes.c_void_p]
    for limit in (library.pcre2_set_match_limit_8, library.pcre2_set_heap_limit_8):
        limit.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.pcre2_match_8.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.c_uint32,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    for free in (library.pcre2_match_context_free_8, library.pcre2_match_data_free_8):
        free.argtypes = [ctypes.c_void_p]
        free.restype = None
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


def matches(pattern: str, text: str) -> bool | None:
    """Return whether *pattern* matches somewhere in *text*, both ASCII.

    None: nobody knows. The library is not installed, cannot read the pattern, or gave up.
    """
    library = _library
    if library is None:
        return None
    bytes_ = pattern.encode()
    code, offset = ctypes.c_int(), ctypes.c_size_t()
    compiled = library.pcre2_compile_8(bytes_, len(bytes_), 0, ctypes.byref(code), ctypes.byref(offset), None)
    if not compiled:
        return None
    context = library.pcre2_match_context_create_8(None)
    found = library.pcre2_match_data_create_8(1, None)
    try:
        library.pcre2_set_match_limit_8(context, _STEPS_MAX)
        library.pcre2_set_heap_limit_8(context, _HEAP_MAX_KIB)
        subject = text.encode()
        result = library.pcre2_match_8(compiled, subject, len(subject), 0, 0, found, context)
    finally:
        library.pcre2_match_data_free_8(found)
        library.pcre2_match_context_free_8(context)
        library.pcre2_code_free_8(compiled)
    if result == _NO_MATCH:
        return False
    return True if result >= 0 else None
