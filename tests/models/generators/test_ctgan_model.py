"""A released CTGAN: what it has learned, its margins, its file, and the same in the package's own class."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dp.central import UnprotectedSum
from models.errors import ConfigError, MisuseError
from models.generators.ctgan import BANNER, CTGAN, OPEN, initial_weights, to_ctgan, train
from models.generators.file import to_bytes
from models.generators.generator import Generator, sample
from tests.models.generators.cohorts import DICTIONARY, cohort

MULTIPLIERS = {"histogram": 1.0, "gradient": 1.0}


@lru_cache
def model() -> CTGAN:
    settings = replace(OPEN, name="short", turns=400)
    weights = initial_weights(settings, DICTIONARY, b"w")
    return train(settings, DICTIONARY, MULTIPLIERS, 4096, weights, cohort(2000), UnprotectedSum())


def test_it_is_a_generator() -> None:
    found: Generator = model()
    assert found.learner == "ctgan"
    assert found.dictionary == DICTIONARY
    one, same = sample(found, 200, 3), sample(found, 200, 3)
    assert np.array_equal(one.x, same.x)
    assert len(model().draw(0, np.random.default_rng(0))) == 0
    assert "5,000" in BANNER


def test_it_learns_what_goes_together() -> None:
    data, real = model().draw(20_000, np.random.default_rng(0)), cohort(20_000)

    def related(table: Any, i: int, j: int) -> float:
        both = table.observed[:, i] & table.observed[:, j]
        return float(np.corrcoef(table.x[both, i], table.x[both, j])[0, 1])

    for i, j in ((3, 4), (3, 5), (4, 5), (1, 2), (1, 3)):
        wanted = related(real, i, j)
        assert related(data, i, j) / wanted > 0.4, (i, j)


def wandering() -> CTGAN:
    """The same, its answers shifted: what a GAN does to margins."""
    params = model().params.copy()
    params[-model().form.width :] += np.random.default_rng(4).normal(size=model().form.width)
    return replace(model(), params=params)


@pytest.mark.parametrize("made", [model, wandering], ids=lambda made: made.__name__)
def test_columns_have_their_released_frequencies(made: Callable[[], CTGAN]) -> None:
    net = made()
    data = net.draw(100_000, np.random.default_rng(1))
    codes = DICTIONARY.codes(data)
    for j in range(6):
        share = np.bincount(codes[:, j], minlength=DICTIONARY.levels[j]) / len(codes)
        assert np.abs(share - net.frequencies.coarse(j)).max() < 0.02, j
    for j in range(2):  # a scalar goes through its own distribution function: evenly within its levels, too
        column = DICTIONARY.columns[j]
        fine = np.bincount(column.fine_codes(data.x[:, j], data.observed[:, j]), minlength=column.fine_bins + 1)
        assert np.abs(fine / len(codes) - net.frequencies.tables[j]).max() < 0.01, j
    share = np.bincount(codes[:, 6], minlength=DICTIONARY.outcome_levels) / len(codes)
    assert np.abs(share - net.coding.shares[net.coding.places.groups[-1]]).max() < 0.02


def test_draws_are_bounded() -> None:
    data = model().draw(20_000, np.random.default_rng(2))
    for j, column in enumerate(DICTIONARY.columns):
        seen = data.x[data.observed[:, j], j]
        if column.values:
            assert set(np.unique(seen)) <= set(column.values)
        else:
            assert column.low <= seen.min()
            assert seen.max() <= column.high
            assert len(np.unique(seen)) > 1000
    assert (data.x[~data.observed] == 0).all()
    assert (data.duration >= 0).all()
    assert (data.duration <= DICTIONARY.grid[-1]).all()


def test_small_tables_are_drawn_together() -> None:
    """Their shares differ less from each other than those of independent patients."""
    found = [model().draw(400, np.random.default_rng(seed)) for seed in range(40)]
    shares = [float(table.x[:, 3].mean()) for table in found]
    share = float(np.mean(shares))
    assert np.std(shares) < 0.75 * np.sqrt(share * (1 - share) / 400)


def test_complete_patients_have_every_value() -> None:
    net = model()
    whole = replace(net, complete=True)
    assert not net.draw(4000, np.random.default_rng(2)).observed.all()
    assert whole.draw(4000, np.random.default_rng(2)).observed.all()
    assert whole.digest == net.digest


# ---------------------------------------------------------------- files


def test_a_file_brings_it_back() -> None:
    net = model()
    again = CTGAN.rebuild(DICTIONARY, net.structure(), net.tensors())
    assert again.digest == net.digest
    one, other = (each.draw(50, np.random.default_rng(0)) for each in (net, again))
    assert np.array_equal(one.x, other.x)
    assert np.array_equal(one.duration, other.duration)


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("part", ["patients", "frequencies", "params", "statistics"])
def test_every_released_number_is_in_the_digest(part: str, place: int) -> None:
    net = model()
    numbers = net.tensors()[part].copy()
    numbers[place] += 1e-9
    assert CTGAN.rebuild(DICTIONARY, net.structure(), {**net.tensors(), part: numbers}).digest != net.digest


@pytest.mark.parametrize(
    ("structure", "tensors"),
    [
        ({"latent": 0}, {}),
        ({"latent": 32.0}, {}),
        ({"latent": 31}, {}),
        ({"units": 64}, {}),
        ({"units": []}, {}),
        ({"units": [64, True]}, {}),
        ({"units": [64]}, {}),
        ({"more": 1}, {}),
        ({}, {"more": lambda _: np.zeros(1)}),
        ({}, {"patients": lambda p: np.append(p, 1.0)}),
        ({}, {"frequencies": lambda f: f[1:]}),
        ({}, {"frequencies": lambda f: -f}),
        ({}, {"frequencies": lambda f: 2 * f}),
        ({}, {"params": lambda p: p[1:]}),
        ({}, {"params": lambda p: p * np.nan}),
        ({}, {"params": lambda p: p.astype(np.float32)}),
        ({}, {"params": lambda p: p[None]}),
        ({}, {"statistics": lambda s: s[1:]}),
        ({}, {"statistics": lambda s: -np.abs(s) - 1.0}),
        ({}, {"statistics": lambda s: s * np.inf}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_what_contradicts_itself_is_refused(
    structure: dict[str, object], tensors: dict[str, Callable[[Any], Any]]
) -> None:
    net = model()
    stored: dict[str, Any] = dict(net.tensors())
    changed = {name: change(stored.get(name)) for name, change in tensors.items()}
    with pytest.raises(MisuseError):
        CTGAN.rebuild(DICTIONARY, {**net.structure(), **structure}, {**stored, **changed})


def test_drawing_needs_neither_torch_nor_the_package(tmp_path: Path) -> None:
    card: dict[str, Any] = {
        name: {} for name in ("profile", "study", "transcript", "metrics", "intended_use", "limits", "privacy")
    }
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_bytes(model(), card))
    code = (
        "import sys, pathlib, numpy, models.generators.file as files\n"
        "found, _ = files.load(pathlib.Path(sys.argv[1]))\n"
        "assert len(found.draw(10, numpy.random.default_rng(0))) == 10\n"
        "sys.exit('torch' in sys.modules or 'ctgan' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0


# ---------------------------------------------------------------- the package's own class


def test_weights_load_into_the_package() -> None:
    net = model()
    theirs = to_ctgan(net)
    inputs = net.inputs(500, np.random.default_rng(0))
    found = theirs._generator(torch.from_numpy(inputs).float()).detach().numpy()
    assert np.allclose(found, net.answers(inputs), atol=2e-4)


@pytest.mark.parametrize("complete", [False, True])
def test_the_package_samples_the_same_patients(complete: bool) -> None:
    net = replace(model(), complete=complete)
    frame, data = to_ctgan(net).sample(6000), net.draw(6000, np.random.default_rng(0))
    assert list(frame.columns) == [*DICTIONARY.names, "duration", "event"]
    assert len(frame) == 6000
    assert abs(frame["event"].mean() - data.event.mean()) < 0.03
    assert frame["duration"].mean() == pytest.approx(data.duration.mean(), rel=0.05)
    for j, name in enumerate(DICTIONARY.names):
        assert abs(frame[name].isna().mean() - (~data.observed[:, j]).mean()) < 0.03
        assert abs(frame[name].mean() - data.x[data.observed[:, j], j].mean()) < 0.08
    drawn, wanted = frame["mut_a"].corr(frame["mut_b"]), np.corrcoef(data.x[:, 3], data.x[:, 4])[0, 1]
    assert drawn == pytest.approx(wanted, abs=0.15)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model()
    monkeypatch.setitem(sys.modules, "ctgan.synthesizers.ctgan", None)
    with pytest.raises(ConfigError, match="haemfed"):
        to_ctgan(net)
    assert len(net.draw(10, np.random.default_rng(0))) == 10
