"""A generator study asks exactly the sums that it announces, whatever the learner."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from dp.queries import Float64, Query
from models.errors import ConfigError
from models.generators.study import GeneratorSpec, Settings, settings_named, settings_of
from tests.models.generators.cohorts import DICTIONARY, cohort

NAMES = ("bayesnet-scores", "bayesnet-tables", "vaebgm-private", "ctgan-private")


def spec(name: str) -> GeneratorSpec:
    learner, settings = settings_named(name)
    return GeneratorSpec.draft(learner, settings, DICTIONARY, b"seed", dict.fromkeys(settings.shares, 2.0), 500)


class _Recording:
    def __init__(self) -> None:
        self.asked: list[Query] = []

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        self.asked.append(query)
        return np.array(contribution(), dtype=np.float64)


@pytest.mark.parametrize("name", NAMES)
def test_the_sums_of_a_study_are_those_of_its_schedule(name: str) -> None:
    made, door = spec(name), _Recording()

    found = made.run(cohort(200), door)

    def shape(query: Query) -> tuple[object, ...]:
        return query.kind, query.index, query.length, query.sensitivity, query.account, query.patient_cap

    assert [shape(query) for query in door.asked] == [shape(query) for query in made.schedule()]
    assert found.learner == made.learner
    assert len(found.draw(10, np.random.default_rng(0))) == 10


@pytest.mark.parametrize(
    ("name", "quick"),
    [("bayesnet-scores", {}), ("vaebgm-private", {"steps": 1})],  # CTGAN asks nowhere how large it is
)
def test_noise_that_may_be_larger_is_believed_less(name: str, quick: dict[str, int]) -> None:
    learner, settings = settings_named(name)
    short: Settings = replace(settings, **quick)  # type: ignore[type-var]  # a frozen dataclass of its learner
    made = GeneratorSpec.draft(learner, short, DICTIONARY, b"seed", dict.fromkeys(settings.shares, 2.0), 500)

    one, other = (replace(made, noise_inflation=times).run(cohort(200), _Recording()) for times in (1.0, 3.0))

    assert one.digest != other.digest


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_sum_has_one_length_and_one_bound(name: str) -> None:
    shapes = {(query.kind, query.length, query.sensitivity) for query in spec(name).schedule()}

    assert len({kind for kind, _, _ in shapes}) == len(shapes)
    assert {kind for kind, _, _ in shapes} == set(settings_named(name)[1].shares)
    assert sum(settings_named(name)[1].shares.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("name", [*NAMES, "vaebgm-open", "ctgan-open"])
def test_a_spec_is_checked_without_deriving_its_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = spec(name)
    learner = import_module(f"models.generators.{made.learner}")
    asked = learner.initial_weights(made.settings, DICTIONARY, b"seed")

    def derive(*_: object) -> bytes:
        raise AssertionError("weights are derived where a study is drafted, and nowhere else")

    monkeypatch.setattr(learner, "initial_weights", derive)

    assert asked == made.weights
    assert replace(made, weights=bytes(len(asked))).schedule() == made.schedule()
    for wrong in (asked + bytes(8), asked[8:] if asked else bytes(1)):
        with pytest.raises(ConfigError, match=f"initial weights have {len(wrong)} bytes, .* needs {len(asked)}"):
            replace(made, weights=wrong)


@pytest.mark.parametrize("name", NAMES)
def test_settings_come_back_from_a_document(name: str) -> None:
    made = spec(name)

    assert settings_of(made.to_json()) == (made.learner, made.settings)
    with pytest.raises(ConfigError, match="exactly the fields"):
        settings_of(made.to_json() | {"more": 1})


def test_what_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="bayesnet-scores"):
        settings_named("copula")
    with pytest.raises(ConfigError, match="no generator 'copula'"):
        settings_of({"learner": "copula"})
    learner, settings = settings_named("bayesnet-scores")
    with pytest.raises(ConfigError, match="multiplier"):
        GeneratorSpec.draft(learner, settings, DICTIONARY, b"", {"histogram": 2.0}, 500)
    with pytest.raises(ConfigError, match="initial weights"):
        GeneratorSpec(learner, settings, DICTIONARY, b"12345678", {"histogram": 2.0, "sum": 2.0}, 500)
