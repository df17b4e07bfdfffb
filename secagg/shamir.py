"""Shamir's secret sharing, octet by octet over GF(2⁸).

A secret octet s is the constant term of a polynomial f of degree t − 1 whose other coefficients are uniform;
whoever holds point x gets f(x). Any t shares give f(0) = s; t − 1 of them are independent of s, whatever s is.
The field is that of AES: F₂[x] modulo x⁸ + x⁴ + x³ + x + 1, addition is XOR.

Nothing here detects a wrong share: it gives another secret, and whoever combines must have another check. Table
look-ups are not constant in time; split and combine run on one machine that holds the secret anyway, and answer
nobody who could measure them per secret.

Source: A. Shamir, How to share a secret, Communications of the ACM 22 (1979); the field: FIPS 197, section 4.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import MisuseError
from secagg.keys import Entropy, draw

__all__ = ["Combiner", "combine", "split"]

_POLYNOMIAL: Final = 0x11B

_Octets = NDArray[np.uint8]


def _multiplication_table() -> _Octets:
    factor = np.arange(256)
    product, shifted = np.zeros((256, 256), dtype=np.int64), factor
    for bit in range(8):
        product ^= np.outer(factor >> bit & 1, shifted)  # add a·xᵇⁱᵗ wherever b has that bit
        shifted = (shifted << 1) ^ (_POLYNOMIAL * (shifted >> 7))
    return product.astype(np.uint8)


_PRODUCT: Final = _multiplication_table()  # uint8[256, 256]
_INVERSE: Final = np.argmax(_PRODUCT == 1, axis=1).astype(np.uint8)  # of 1…255; the entry of 0 means nothing


def split(secret: bytes, threshold: int, points: Sequence[int], entropy: Entropy) -> dict[int, bytes]:
    """Share a secret.

    Args:
        secret: octets, at least one.
        threshold: t ≥ 1, how many shares give it back.
        points: at least t different x-coordinates in 1…255.
        entropy: returns unpredictable octets; one call for (t − 1)·len(secret) of them.

    Returns:
        x → f(x), each as long as the secret.

    Raises:
        MisuseError: an argument is outside its range.
    """
    _check(points, threshold)
    if not secret:
        raise MisuseError("there is no secret to share")
    drawn = draw(entropy, (threshold - 1) * len(secret))
    coefficients = np.frombuffer(drawn + secret, dtype=np.uint8).reshape(threshold, len(secret))
    at = np.array(points, dtype=np.uint8)[:, None]
    shares = np.zeros((len(points), len(secret)), dtype=np.uint8)
    for coefficient in coefficients:  # Horner's rule; the secret is the last coefficient
        shares = _PRODUCT[at, shares] ^ coefficient
    return {point: share.tobytes() for point, share in zip(points, shares, strict=True)}


class Combiner:
    """The Lagrange coefficients of one set of points: many secrets shared at them are combined cheaply.

    Args:
        points: as many different x-coordinates in 1…255 as the threshold of the secrets, or more.

    Raises:
        MisuseError: no point, one outside its range, or one twice.
    """

    __slots__ = ("_coefficients", "points")

    def __init__(self, points: Sequence[int]) -> None:
        _check(points, 1)
        self.points = tuple(points)
        at = np.array(points, dtype=np.uint8)
        coefficients = np.ones(len(points), dtype=np.uint8)
        for position, point in enumerate(at):  # λ_i = ∏_{j ≠ i} x_j / (x_j − x_i), and − is XOR
            ratios = _PRODUCT[point, _INVERSE[at ^ point]]
            ratios[position] = 1
            coefficients = _PRODUCT[coefficients, ratios]
        self._coefficients = coefficients[:, None]

    def combine(self, shares: Mapping[int, bytes]) -> bytes:
        """Return f(0).

        Args:
            shares: x → f(x) for each of the points; others are not used.

        Raises:
            MisuseError: a share is missing, or they differ in length.
        """
        if missing := [point for point in self.points if point not in shares]:
            raise MisuseError(f"no share of point {missing[0]}: all of {self.points} are needed")
        rows = [shares[point] for point in self.points]
        if len({len(row) for row in rows}) != 1 or not rows[0]:
            raise MisuseError("shares of one secret have one length, at least one octet")
        matrix = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)
        secret: _Octets = np.bitwise_xor.reduce(_PRODUCT[self._coefficients, matrix], axis=0)
        return secret.tobytes()


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret from its `threshold` shares of lowest x; further ones are not used.

    Args:
        shares: x → f(x).
        threshold: t, as it was split.

    Raises:
        MisuseError: fewer shares, a point outside 1…255, or shares that differ in length.
    """
    _check(sorted(shares), threshold)
    return Combiner(sorted(shares)[:threshold]).combine(shares)


def _check(points: Sequence[int], threshold: int) -> None:
    if not all(type(point) is int and 1 <= point <= 255 for point in points):
        raise MisuseError("the points of shares are integers in 1..255: the value at 0 is the secret")
    if len(set(points)) != len(points):
        raise MisuseError("two shares at one point are one share")
    if not 1 <= threshold <= len(points):
        raise MisuseError(f"a threshold of {threshold} with {len(points)} points: must be in 1..{len(points)}")
