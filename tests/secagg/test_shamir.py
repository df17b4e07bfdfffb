"""Shamir sharing against slow arithmetic on polynomials, and what t − 1 shares say: nothing."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import MisuseError, shamir
from secagg.shamir import Combiner, combine, split
from tests.federation import entropy
from tests.sweeps import examples


def slow_product(a: int, b: int) -> int:
    """Multiply as polynomials over F₂, then divide by x⁸ + x⁴ + x³ + x + 1."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for degree in range(14, 7, -1):
        if product >> degree & 1:
            product ^= 0b1_0001_1011 << (degree - 8)
    return product


def slow_value(coefficients: Sequence[int], x: int) -> int:
    """Value at x of the polynomial whose constant term comes first."""
    value, power = 0, 1
    for coefficient in coefficients:
        value ^= slow_product(coefficient, power)
        power = slow_product(power, x)
    return value


def slow_secret(shares: Mapping[int, int]) -> int:
    """Constant term by Lagrange's formula, with inverses found by trying."""
    secret = 0
    for x, value in shares.items():
        term = value
        for other in shares:
            if other != x:
                inverse = next(each for each in range(256) if slow_product(each, other ^ x) == 1)
                term = slow_product(term, slow_product(other, inverse))
        secret ^= term
    return secret


def fixed(octets: bytes) -> Callable[[int], bytes]:
    """A generator that returns these octets, once."""
    calls = iter([octets])
    return lambda _size: next(calls)


def test_the_whole_multiplication_table() -> None:
    assert shamir._PRODUCT.tolist() == [[slow_product(a, b) for b in range(256)] for a in range(256)]


def test_products_in_the_standard() -> None:
    """FIPS 197, section 4.2: {57}·{83} = {c1}, {57}·{13} = {fe}, and the powers of x in between."""
    table = shamir._PRODUCT
    assert table[0x57, 0x83] == 0xC1
    assert table[0x57, 0x13] == 0xFE
    assert [table[0x57, 1 << bit] for bit in range(1, 5)] == [0xAE, 0x47, 0x8E, 0x07]


def test_every_inverse() -> None:
    assert [slow_product(each, int(shamir._INVERSE[each])) for each in range(1, 256)] == [1] * 255


@settings(deadline=None, max_examples=examples(60))
@given(data=st.data())
def test_shares_are_values_of_the_polynomial(data: Any) -> None:
    threshold = data.draw(st.integers(1, 6))
    points = data.draw(st.lists(st.integers(1, 255), min_size=threshold, max_size=9, unique=True))
    secret = data.draw(st.binary(min_size=1, max_size=5))
    drawn = data.draw(st.binary(min_size=(threshold - 1) * len(secret), max_size=(threshold - 1) * len(secret)))
    shares = split(secret, threshold, points, fixed(drawn))
    # The octets drawn are the coefficients, highest degree first.
    rows = [drawn[at : at + len(secret)] for at in range(0, len(drawn), len(secret))]
    assert list(shares) == points
    for point, share in shares.items():
        for octet, each in enumerate(secret):
            coefficients = [each, *(row[octet] for row in reversed(rows))]
            assert share[octet] == slow_value(coefficients, point)


@settings(deadline=None, max_examples=examples(60))
@given(data=st.data())
def test_any_t_shares_give_the_secret_back(data: Any) -> None:
    threshold = data.draw(st.integers(1, 7))
    points = data.draw(st.lists(st.integers(1, 255), min_size=threshold, max_size=12, unique=True))
    secret = data.draw(st.binary(min_size=1, max_size=32))
    shares = split(secret, threshold, points, entropy(str(data.draw(st.integers(0, 1 << 30)))))
    chosen = data.draw(st.lists(st.sampled_from(points), min_size=threshold, unique=True))
    some = {point: shares[point] for point in chosen}
    assert combine(some, threshold) == secret
    # All of them lie on the polynomial, so more than t give the same; and so does the slow formula.
    assert Combiner(chosen).combine(shares) == secret
    assert bytes([slow_secret({x: share[0] for x, share in some.items()})]) == secret[:1]


def test_every_choice_of_t_of_n() -> None:
    secret = b"a seed of thirty-two octets, yes"
    shares = split(secret, 5, range(1, 9), entropy("choices"))
    for chosen in itertools.combinations(shares, 5):
        assert combine({point: shares[point] for point in chosen}, 5) == secret
    for chosen in itertools.combinations(shares, 4):
        assert Combiner(chosen).combine(shares) != secret


def test_a_combiner_serves_many_secrets() -> None:
    points, combiner, chance = (3, 7, 200, 255), Combiner((3, 7, 200)), entropy("many")
    for _ in range(20):
        secret = chance(32)
        assert combiner.combine(split(secret, 3, points, chance)) == secret


def test_one_share_of_two_says_nothing() -> None:
    """For every secret octet, each value of a share comes from exactly one coefficient."""
    coefficients = bytes(range(256))
    for secret in range(256):
        shares = split(bytes([secret]) * 256, 2, [1, 77, 255], fixed(coefficients))
        for share in shares.values():
            assert sorted(share) == list(range(256)), secret


@pytest.mark.parametrize("secret", [0, 1, 0x53, 255])
def test_two_shares_of_three_say_nothing(secret: int) -> None:
    """All 65 536 choices of coefficients: each pair of shares comes from exactly one, whatever the secret is."""
    first, second = np.divmod(np.arange(1 << 16), 256)
    drawn = first.astype(np.uint8).tobytes() + second.astype(np.uint8).tobytes()
    shares = split(bytes([secret]) * (1 << 16), 3, [2, 9, 130], fixed(drawn))
    for one, other in itertools.combinations(shares.values(), 2):
        pairs = np.frombuffer(one, dtype=np.uint8).astype(np.int64) * 256 + np.frombuffer(other, dtype=np.uint8)
        assert np.array_equal(np.bincount(pairs, minlength=1 << 16), np.ones(1 << 16))


def test_as_much_entropy_as_needed_and_no_less() -> None:
    asked: list[int] = []

    def count(size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    split(bytes(32), 5, range(1, 8), count)
    assert asked == [4 * 32]
    with pytest.raises(MisuseError, match="returned 5 octets"):
        split(bytes(32), 5, range(1, 8), lambda _size: b"short")


@pytest.mark.parametrize(
    ("points", "threshold", "match"),
    [
        ([0, 1, 2], 2, "1..255"),
        ([1, 2, 256], 2, "1..255"),
        ([1, 2, -1], 2, "1..255"),
        ([1, 2, True], 2, "1..255"),
        ([1, 2, 2], 2, "one share"),
        ([1, 2, 3], 0, "threshold of 0"),
        ([1, 2, 3], 4, "threshold of 4"),
        ([], 1, "threshold of 1"),
    ],
)
def test_points_that_cannot_be(points: Any, threshold: int, match: str) -> None:
    with pytest.raises(MisuseError, match=match):
        split(b"secret", threshold, points, entropy("x"))
    if threshold == 2:
        with pytest.raises(MisuseError, match=match):
            Combiner(points)


def test_shares_that_cannot_be_combined() -> None:
    shares = split(b"secret", 3, [1, 2, 3, 4], entropy("x"))
    with pytest.raises(MisuseError, match="threshold of 3 with 2 points"):
        combine({1: shares[1], 2: shares[2]}, 3)
    with pytest.raises(MisuseError, match="integers in 1"):
        combine({**shares, 0: b"secret"}, 3)
    with pytest.raises(MisuseError, match="no share of point 9"):
        Combiner([1, 2, 9]).combine(shares)
    with pytest.raises(MisuseError, match="one length"):
        combine({**shares, 2: b"short"}, 3)
    with pytest.raises(MisuseError, match="one length"):
        combine({1: b"", 2: b""}, 2)
    with pytest.raises(MisuseError, match="no secret"):
        split(b"", 2, [1, 2, 3], entropy("x"))
    with pytest.raises(MisuseError, match="threshold of 1 with 0"):
        Combiner([])
