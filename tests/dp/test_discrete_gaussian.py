"""The sampler against independent arithmetic, and its draws against the law they should have."""

import random
from bisect import bisect_right
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from scipy import stats

from dp import discrete_gaussian as dg
from dp.errors import MisuseError
from dp.queries import Keystream
from tests.sweeps import thinned


def oracle(variance: int, bits: int) -> list[int]:
    """Cumulative probabilities by mpmath at 200 digits, another library than the code's."""
    with mpmath.workdps(200):
        bound = 16 * int(mpmath.sqrt(variance))
        weights = [mpmath.exp(mpmath.mpf(-x * x) / (2 * variance)) for x in range(-bound, bound + 1)]
        total = mpmath.fsum(weights)
        out, partial = [], mpmath.mpf(0)
        for weight in weights[:-1]:
            partial += weight
            out.append(int(mpmath.floor(partial * 2**bits / total)))
        return out


def probabilities(variance: int) -> np.ndarray:
    bound = 16 * int(variance**0.5)
    x = np.arange(-bound, bound + 1)
    weights = np.exp(-x * x / (2 * variance))
    return weights / weights.sum()


@pytest.mark.parametrize(("variance", "bits"), [(1, 64), (1, 192), (4, 64), (16, 128), (81, 64), (4096, 64)])
def test_the_table_is_exact(variance: int, bits: int) -> None:
    assert list(dg.cumulative(variance, bits)) == oracle(variance, bits)


def test_more_bits_refine_and_never_contradict() -> None:
    coarse, fine = dg.cumulative(16, 64), dg.cumulative(16, 320)

    assert [value >> 256 for value in fine] == list(coarse)
    assert all(a < b for a, b in pairwise(fine))


def test_draws_equal_a_plain_reading_of_the_definition() -> None:
    """The vectorised sampler against: read U bit by bit, return the smallest x with U < F(x)."""
    length = 3000
    blob = random.Random(5).randbytes(16 * length)
    floors = oracle(4096, 64)
    bound = 1024
    head = np.frombuffer(blob, "<u2", count=length)
    rest = 2 * length
    expected = []
    for top in head.tolist():
        low, high = top << 48, (top << 48) | (2**48 - 1)
        index = bisect_right(floors, low - 1)
        if index != bisect_right(floors, high):
            low |= int.from_bytes(blob[rest : rest + 6], "little")
            rest += 6
            index = bisect_right(floors, low)
        expected.append(index - bound)

    stream = iter_bytes(blob)
    assert dg.table(4096).draw(stream, length).tolist() == expected


def iter_bytes(blob: bytes) -> Keystream:
    position = 0

    def take(n: int) -> bytes:
        nonlocal position
        position += n
        return blob[position - n : position]

    return take


class Filling:
    """A keystream that writes into memory; calling it is for what is short."""

    def __init__(self, blob: bytes) -> None:
        self.take, self.reads = iter_bytes(blob), 0

    def __call__(self, n: int) -> bytes:
        return self.take(n)

    def into(self, octets: memoryview) -> None:
        self.reads += 1
        octets[:] = self.take(len(octets))


@pytest.mark.parametrize("variance", thinned([9, 784, 4096], 2))
def test_filling_chunks_and_blocks_change_no_draw(monkeypatch: pytest.MonkeyPatch, variance: int) -> None:
    """Whatever the sizes in which it is read, one stream gives one vector: all heads first, then the rest."""
    blob = random.Random(variance).randbytes(40_000)
    whole = dg.Table(variance).draw(iter_bytes(blob), 5000)
    stream = Filling(blob)
    assert dg.Table(variance).draw(stream, 5000).tolist() == whole.tolist()
    assert stream.reads == 1
    for chunk in (1, 7, 2500, 4999, 5000):
        monkeypatch.setattr(dg, "_CHUNK", chunk)
        for keystream in (iter_bytes(blob), Filling(blob)):
            draws = dg.table(variance).draw(keystream, 5000)
            assert draws.dtype == np.int16
            assert draws.tolist() == whole.tolist()


@pytest.mark.parametrize("variance", [9, 784, 4096])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_adding_in_place_is_adding_the_draws(monkeypatch: pytest.MonkeyPatch, variance: int, dtype: type) -> None:
    blob = random.Random(variance).randbytes(40_000)
    draws = dg.table(variance).draw(iter_bytes(blob), 5000).astype(np.int64)
    room = np.iinfo(dtype).max - 16 * int(variance**0.5)
    before = np.random.default_rng(1).choice([-room, -1, 0, 1, room], 5000)
    for chunk in (5000, 777):
        monkeypatch.setattr(dg, "_CHUNK", chunk)
        values = before.astype(dtype)
        dg.table(variance).add(values, iter_bytes(blob))
        assert values.dtype == dtype
        assert values.tolist() == (before + draws).tolist()


@pytest.mark.parametrize("variance", thinned([1, 9, 35**2, 36**2, 4096], 3))
@pytest.mark.parametrize("tail", thinned([b"\x5a", b"\0", b"\xff"]))
def test_every_first_16_bits_lead_to_the_inverse(variance: int, tail: bytes) -> None:
    """All 65,536 of them, each followed by the same bytes for ever."""
    heads = np.arange(65_536, dtype="<u2").tobytes()
    position = 0

    def keystream(n: int) -> bytes:
        nonlocal position
        start, position = position, position + n
        return (heads + tail * n)[start : start + n] if start < len(heads) else tail * n

    bits = 320
    floors = dg.cumulative(variance, bits)
    rest = int.from_bytes(tail * ((bits - 16) // 8), "little")
    bound = 16 * int(variance**0.5)

    draws = dg.table(variance).draw(keystream, 65_536)

    assert draws.tolist() == [bisect_right(floors, (head << (bits - 16)) | rest) - bound for head in range(65_536)]


@pytest.mark.parametrize("edge", [0, 20, 31, -1])
@pytest.mark.parametrize("above", [False, True])
def test_a_tie_is_refined_as_far_as_it_lasts(edge: int, above: bool) -> None:
    """A uniform number that equals F(x) in its first 192 bits is decided by the bits after them."""
    floors = dg.cumulative(4, 256)
    edge %= len(floors)
    number = floors[edge] + 1 if above else floors[edge] - 1
    words = [(number >> shift) & (2**64 - 1) for shift in (192, 128, 64, 0)]
    blob = (words[0] >> 48).to_bytes(2, "little") + (words[0] & (2**48 - 1)).to_bytes(6, "little")
    blob += b"".join(word.to_bytes(8, "little") for word in words[1:])

    value = dg.Table(4).draw(iter_bytes(blob), 1)[0]

    assert value == edge - 32 + (1 if above else 0)


def test_extreme_streams_stay_inside_the_support() -> None:
    zeros, ones = dg.Table(4), dg.Table(4)

    assert zeros.draw(bytes, 3).tolist() == [-32] * 3
    assert ones.draw(lambda n: b"\xff" * n, 3).tolist() == [32] * 3


def test_a_short_keystream_is_refused() -> None:
    with pytest.raises(MisuseError, match="keystream"):
        dg.Table(4).draw(lambda n: bytes(n - 1), 3)


@pytest.mark.parametrize("variance", [0, 2, 63, 129**2])
def test_only_small_square_variances(variance: int) -> None:
    with pytest.raises(MisuseError):
        dg.Table(variance)


@pytest.mark.parametrize("variance", [1, 9, 16, 784, 4096])
def test_chi_square_of_draws(keystream: Keystream, variance: int) -> None:
    draws = dg.table(variance).draw(keystream, 400_000)
    bound = 16 * int(variance**0.5)
    expected = probabilities(variance) * draws.size
    counts = np.bincount(draws.astype(np.int64) + bound, minlength=2 * bound + 1)
    inside = expected >= 10
    observed = np.append(counts[inside], counts[~inside].sum())
    law = np.append(expected[inside], expected[~inside].sum())

    assert stats.chisquare(observed, law).pvalue > 1e-3


def test_convolution_is_the_wide_discrete_gaussian() -> None:
    """s = 4, k = 2, two levels: the exact law of X_0 + 2 X_1 against the discrete Gaussian of variance 80."""
    small = probabilities(16)
    wide = np.zeros(2 * small.size - 1)
    wide[::2] = small
    law = np.convolve(small, wide)
    x = np.arange(law.size) - law.size // 2
    target = np.exp(-x * x / (2 * 16 * 5))
    target /= target.sum()

    assert np.abs(law - target).sum() / 2 < 1e-14  # 2·exp(−2π²·16/5) = 7e-28: the float64 limit
    assert 2 * np.exp(-2 * np.pi**2 * 64**2 / (1 + 32**2)) < 2e-34


def test_convolution_sees_a_table_that_is_too_small() -> None:
    """s = 1, k = 4: the same test must fail where the theory says that it does."""
    small = probabilities(1)
    wide = np.zeros(4 * (small.size - 1) + 1)
    wide[::4] = small
    law = np.convolve(small, wide)
    x = np.arange(law.size) - law.size // 2
    target = np.exp(-x * x / (2 * 17))
    target /= target.sum()

    assert np.abs(law - target).sum() / 2 > 0.1


def test_convolution_is_horner_over_independent_levels(keystream: Keystream) -> None:
    length = 1000
    blob = keystream(40 * length)
    levels = dg.table(4096).draw(iter_bytes(blob), 5 * length).reshape(5, length).astype(object)

    out = dg.convolution(iter_bytes(blob), length, variance=4096, base=32, levels=5)

    assert out.tolist() == [sum(32**level * int(levels[level, i]) for level in range(5)) for i in range(length)]


def test_moments_of_a_share(keystream: Keystream) -> None:
    n = 400_000
    share = dg.convolution(keystream, n, variance=4096, base=32, levels=5) / dg.SHARE_VARIANCE**0.5

    assert abs(share.mean()) < 4 / n**0.5
    assert abs(share.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs(stats.kurtosis(share)) < 4 * (24 / n) ** 0.5
    assert abs(np.corrcoef(share[:-1], share[1:])[0, 1]) < 4 / n**0.5
    assert stats.kstest(share[:50_000], "norm").pvalue > 1e-3
    assert np.abs(share).max() * dg.SHARE_VARIANCE**0.5 <= dg.SHARE_BOUND


def test_low_digits_are_uniform(keystream: Keystream) -> None:
    """A rounded float Gaussian of this width has zero bits at the bottom; an exact one has none."""
    share = dg.convolution(keystream, 200_000, variance=4096, base=32, levels=5)

    assert stats.chisquare(np.bincount(share % 64, minlength=64)).pvalue > 1e-3


@pytest.mark.parametrize("length", [0, 1, 65_536, 65_537])
def test_any_length(keystream: Keystream, length: int) -> None:
    assert dg.convolution(keystream, length, variance=4096, base=32, levels=5).shape == (length,)


@pytest.mark.parametrize(
    ("variance", "levels"), thinned(pytest.param(*each) for each in [(4096, 5), (128**2, 5), (128**2, 7)])
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_share_does_not_wrap(variance: int, levels: int, sign: int) -> None:
    """σ = 64 and five levels fit 32 bits, the wider ones do not."""
    bound = 16 * int(variance**0.5) * sum(32**level for level in range(levels))
    octets = b"\xff" if sign == 1 else b"\0"

    out = dg.convolution(lambda n: octets * n, 2, variance=variance, base=32, levels=levels)

    assert out.dtype == np.int64
    assert out.tolist() == [sign * bound] * 2
    assert (bound < 2**31) == (variance == 4096)


def test_a_share_is_read_block_by_block(keystream: Keystream) -> None:
    blob = keystream(1_500_000)
    whole = iter_bytes(blob)
    parts = [dg.convolution(whole, n, variance=4096, base=32, levels=5) for n in (65_536, 65_536, 3)]

    levels = dg.table(4096).draw(iter_bytes(blob), 5 * 65_536).reshape(5, 65_536)
    assert parts[0].tolist() == sum(32**level * levels[level].astype(np.int64) for level in range(5)).tolist()
    for stream in (iter_bytes(blob), Filling(blob)):
        share = dg.convolution(stream, 2 * 65_536 + 3, variance=4096, base=32, levels=5)
        assert share.tolist() == np.concatenate(parts).tolist()


@pytest.mark.parametrize(("root", "octets"), [(3, 1), (28, 1), (35, 1), (36, 2), (64, 2)])
def test_the_look_ups_are_as_narrow_as_they_can_be(root: int, octets: int) -> None:
    assert dg.table(root**2)._guide.itemsize == octets
