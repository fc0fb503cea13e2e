"""Whether a signature is an ed25519 key's: RFC 8032, section 5.1.7, with nothing but integers.

A host may have no library for it, and the ``openssl`` of many (1.1.1) cannot verify such a signature: every
host does the same sums. Nothing here is secret, so none of it needs to take the same time. A verification
takes some milliseconds, and an operation does one for each signature of an index.

A point of the curve ``-x² + y² = 1 + d·x²·y²`` is written as ``(X, Y, Z, T)``: ``x = X/Z``, ``y = Y/Z``,
``x·y = T/Z``.
"""

from __future__ import annotations

import hashlib

KEY_BYTES = 32
P = 2**255 - 19  #: the coordinates' prime
ORDER = 2**252 + 27742317777372353535851937790883648493  #: of the base point
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)

Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


def signed(payload: bytes, signature: bytes, key: bytes) -> bool:
    """Tell whether *signature* (64 bytes) over *payload* is that of the public *key* (32 bytes)."""
    if len(signature) != 2 * KEY_BYTES or len(key) != KEY_BYTES:
        return False
    commitment, factor = signature[:KEY_BYTES], int.from_bytes(signature[KEY_BYTES:], "little")
    point = _decoded(key)
    if point is None or factor >= ORDER:  # a greater one would be a second signature of the same
        return False
    digest = hashlib.sha512(commitment + key + payload).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    # S·B = R + k·A, so S·B + k·(-A) encodes to the very bytes of R.
    negative = (-point[0] % P, point[1], point[2], -point[3] % P)
    return _encoded(_added(_times(factor, BASE), _times(challenge, negative))) == commitment


def _added(one: Point, other: Point) -> Point:
    """Return the sum of two points, which may be the same."""
    minus = (one[1] - one[0]) * (other[1] - other[0]) % P
    plus = (one[1] + one[0]) * (other[1] + other[0]) % P
    product = 2 * one[3] * other[3] * D % P
    scale = 2 * one[2] * other[2] % P
    e, f, g, h = plus - minus, scale - product, scale + product, plus + minus
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(count: int, point: Point) -> Point:
    """Return *count* times a point."""
    total = NEUTRAL
    while count:
        if count & 1:
            total = _added(total, point)
        point = _added(point, point)
        count >>= 1
    return total


def _encoded(point: Point) -> bytes:
    """Return the 32 bytes of a point: y, and in the last bit whether x is odd."""
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(KEY_BYTES, "little")


def _decoded(data: bytes) -> Point | None:
    """Return the point that 32 bytes stand for, None when there is none."""
    number = int.from_bytes(data, "little")
    y, is_odd = number & ((1 << 255) - 1), number >> 255
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_ONE % P
    if x * x % P != square or (x == 0 and is_odd):
        return None
    if x & 1 != is_odd:
        x = P - x
    return (x, y, 1, x * y % P)


def _base() -> Point:
    point = _decoded((4 * pow(5, -1, P) % P).to_bytes(KEY_BYTES, "little"))
    assert point is not None
    return point


BASE = _base()
