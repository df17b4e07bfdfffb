"""A released network: draws follow its tables, files bring it back, what contradicts itself is refused."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from dp.central import UnprotectedSum
from models.errors import ConfigError, MisuseError
from models.generators.bayesnet import TABLES, BayesianNetwork, to_bif, to_pgmpy, train
from models.generators.bayesnet.interchange import state_names
from models.generators.dictionary import OUTCOME, Codes
from models.generators.generator import Generator, sample
from tests.models.generators.cohorts import DICTIONARY, cohort

MULTIPLIERS = {"histogram": 1.0, "marginals": 1.0, "sum": 1.0}


@lru_cache
def network() -> BayesianNetwork:
    return train(TABLES, DICTIONARY, MULTIPLIERS, 4096, b"", cohort(3000), UnprotectedSum())


def test_it_is_a_generator() -> None:
    found: Generator = network()
    assert found.learner == "bayesnet"
    assert found.dictionary == DICTIONARY
    one, same = sample(found, 200, 3), sample(found, 200, 3)
    assert np.array_equal(one.x, same.x)
    assert len(network().draw(0, np.random.default_rng(0))) == 0


def test_draws_follow_the_tables() -> None:
    net, n = network(), 200_000
    codes = net.levels_of(n, np.random.default_rng(0))
    for j, table in enumerate(net.tables):
        axes = (j, *net.parents[j])
        counts = np.zeros(table.shape)
        np.add.at(counts, tuple(codes[:, a] for a in axes), 1)
        many = counts.sum(axis=0)
        spread = np.sqrt(table * (1 - table) / np.maximum(many, 1))
        off = np.abs(counts / np.maximum(many, 1) - table)
        once = 3 / np.maximum(many, 1)  # three patients of a cell that hardly anybody is expected in
        assert (off <= 5 * spread + once)[:, many > 50].all()


def test_drawn_numbers_have_the_drawn_levels() -> None:
    data = network().draw(5000, np.random.default_rng(1))
    codes, real = DICTIONARY.codes(data), DICTIONARY.codes(cohort(3000))
    for a, b in combinations(range(7), 2):
        one, other = (np.zeros((DICTIONARY.levels[a], DICTIONARY.levels[b])) for _ in range(2))
        np.add.at(one, (codes[:, a], codes[:, b]), 1 / len(codes))
        np.add.at(other, (real[:, a], real[:, b]), 1 / len(real))
        assert 0.5 * np.abs(one - other).sum() < 0.12
    assert (data.x[~data.observed] == 0).all()
    assert (data.duration >= 0).all()
    assert (data.duration <= DICTIONARY.grid[-1]).all()


def test_complete_patients_have_every_value() -> None:
    net = network()
    whole = replace(net, complete=True)
    data = whole.draw(4000, np.random.default_rng(2))

    assert not net.draw(4000, np.random.default_rng(2)).observed.all()
    assert data.observed.all()
    assert whole.digest == net.digest
    real = cohort(3000)
    for j in (3, 4, 5):
        assert abs(data.x[:, j].mean() - real.x[real.observed[:, j], j].mean()) < 0.03


def test_complete_patients_even_where_nobody_was_observed() -> None:
    net = network()
    tables = [t.copy() for t in net.tables]
    tables[3][:] = 0.0
    tables[3][-1] = 1.0
    only = replace(net, tables=tuple(tables), complete=True)
    assert only.draw(500, np.random.default_rng(0)).observed.all()


def test_a_drawn_table_is_nearer_to_the_model_than_independent_patients() -> None:
    net, n = network(), 600
    exact = net.levels_of(200_000, np.random.default_rng(3))

    def distance(codes: Codes) -> float:
        genes = [np.cov((c[:, 1:] == 1).astype(float).T) for c in (codes, exact)]
        return float(np.mean((genes[0] - genes[1]) ** 2))

    together = np.mean([distance(net.balanced(n, np.random.default_rng(s))) for s in range(5)])
    apart = np.mean([distance(net.levels_of(n, np.random.default_rng(s))) for s in range(5)])
    assert together < 0.5 * apart


def test_a_level_of_no_probability_is_never_drawn() -> None:
    net = network()
    tables = [t.copy() for t in net.tables]
    tables[0] = tables[0] * 1.0
    tables[0][2] = 0.0
    tables[0][-1] = 0.0
    tables[0] /= tables[0].sum(axis=0)
    codes = replace(net, tables=tuple(tables)).levels_of(50_000, np.random.default_rng(0))
    assert not np.isin(codes[:, 0], (2, DICTIONARY.levels[0] - 1)).any()
    codes = replace(net, tables=tuple(tables)).balanced(2000, np.random.default_rng(0))
    assert not np.isin(codes[:, 0], (2, DICTIONARY.levels[0] - 1)).any()


def test_a_file_brings_it_back() -> None:
    net = network()
    again = BayesianNetwork.rebuild(DICTIONARY, net.structure(), net.tensors())
    assert again.digest == net.digest
    assert again.parents == net.parents
    assert np.array_equal(again.draw(50, np.random.default_rng(0)).x, net.draw(50, np.random.default_rng(0)).x)


@pytest.mark.parametrize("part", ["patients", "frequencies", "tables", "order"])
def test_every_released_number_is_in_the_digest(part: str) -> None:
    net = network()
    structure, tensors = net.structure(), net.tensors()
    if part == "order":
        # Two columns without a path between them may change places.
        structure["order"] = _other_order(net)
    elif part == "patients":
        tensors[part] = tensors[part] + 1
    else:
        numbers = tensors[part].copy()
        numbers[0] += 1e-9
        tensors[part] = numbers
    assert BayesianNetwork.rebuild(DICTIONARY, structure, tensors).digest != net.digest


def _other_order(net: BayesianNetwork) -> list[int]:
    order = list(net.order)
    for k in range(len(order) - 1):
        if order[k] not in net.parents[order[k + 1]]:
            order[k], order[k + 1] = order[k + 1], order[k]
            return order
    raise AssertionError("no two neighbours can change places")


def _broken(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Callable[[], BayesianNetwork]:
    def build() -> BayesianNetwork:
        structure, tensors = network().structure(), network().tensors()
        change(structure, tensors)
        return BayesianNetwork.rebuild(DICTIONARY, structure, tensors)

    return build


@pytest.mark.parametrize(
    "build",
    [
        _broken(lambda s, t: s.update(order=s["order"][::-1])),
        _broken(lambda s, t: s.update(order=s["order"][1:])),
        _broken(lambda s, t: s.update(order="0123456")),
        _broken(lambda s, t: s.update(parents=[[True], *s["parents"][1:]])),
        _broken(lambda s, t: s.update(parents=[[float(a) for a in each] for each in s["parents"]])),
        _broken(lambda s, t: s.update(order=[float(a) for a in s["order"]])),
        _broken(lambda s, t: s.update(parents=[[99], *s["parents"][1:]])),
        _broken(lambda s, t: s.update(parents=s["parents"][1:])),
        _broken(lambda s, t: s.update(more=1)),
        _broken(lambda s, t: s.pop("order")),
        _broken(lambda s, t: t.pop("tables")),
        _broken(lambda s, t: t.update(tables=t["tables"][1:])),
        _broken(lambda s, t: t.update(tables=t["tables"] * 2)),
        _broken(lambda s, t: t.update(tables=t["tables"] * np.nan)),
        _broken(lambda s, t: t.update(tables=t["tables"].astype(np.float32))),
        _broken(lambda s, t: t.update(frequencies=-t["frequencies"])),
        _broken(lambda s, t: t.update(patients=np.ones(2))),
    ],
)
def test_what_contradicts_itself_is_refused(build: Callable[[], BayesianNetwork]) -> None:
    with pytest.raises(MisuseError):
        build()


def test_names_of_levels() -> None:
    names = state_names(DICTIONARY)
    assert [len(names[name]) for name in (*DICTIONARY.names, OUTCOME)] == list(DICTIONARY.levels)
    assert names[OUTCOME][:2] == ["died_0", "died_1"]
    assert names["mut_a"] == ["level_0", "level_1", "not_observed"]


def test_without_pgmpy_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pgmpy.factors.discrete", None)
    for export in (to_pgmpy, to_bif):
        with pytest.raises(ConfigError, match=r"pip install 'haemfed\[interop\]'"):
            export(network())


def test_pgmpy_has_the_same_network() -> None:
    pytest.importorskip("pgmpy")
    net, model = network(), to_pgmpy(network())
    names = (*DICTIONARY.names, OUTCOME)
    assert model.check_model()
    assert set(model.edges()) == {(names[a], names[j]) for j, those in enumerate(net.parents) for a in those}
    for j, name in enumerate(names):
        assert np.allclose(model.get_cpds(name).values, net.tables[j], atol=1e-9)


def test_pgmpy_counts_the_same_tables() -> None:
    pytest.importorskip("pgmpy")
    pandas = pytest.importorskip("pandas")
    from pgmpy.models import DiscreteBayesianNetwork
    from pgmpy.parameter_estimator import DiscreteMLE

    # With one parent a family is one counted table.
    tree = replace(TABLES, parents=1, reach=1)
    net = train(tree, DICTIONARY, MULTIPLIERS, 4096, b"", cohort(3000), UnprotectedSum())
    names = (*DICTIONARY.names, OUTCOME)
    states = state_names(DICTIONARY)
    codes = DICTIONARY.codes(cohort(3000))
    frame = pandas.DataFrame({n: np.array(states[n])[codes[:, j]] for j, n in enumerate(names)}).astype("category")
    model = DiscreteBayesianNetwork(list(to_pgmpy(net).edges()))
    model.fit(frame, estimator=DiscreteMLE())
    for j, name in enumerate(names):
        found = model.get_cpds(name)
        counts = np.zeros(net.tables[j].shape)
        np.add.at(counts, tuple(codes[:, a] for a in (j, *net.parents[j])), 1)
        seen = np.argwhere(counts > 30)
        for cell in seen:
            those = dict(zip((name, *(names[a] for a in net.parents[j])), cell, strict=True))
            value = found.get_value(**{key: states[key][k] for key, k in those.items()})
            # The prior of one patient moves a share by at most 1 / (patients + 1).
            assert abs(value - net.tables[j][tuple(cell)]) <= 1 / (counts[(slice(None), *cell[1:])].sum() + 1)


def test_bif_comes_back() -> None:
    pytest.importorskip("pgmpy")
    from pgmpy.readwrite import BIFReader

    model = BIFReader(string=to_bif(network())).get_model()
    same = to_pgmpy(network())
    assert set(model.edges()) == set(same.edges())
    for cpd in same.get_cpds():
        read = model.get_cpds(cpd.variable)
        for cell in np.ndindex(cpd.values.shape):
            where = {v: cpd.state_names[v][k] for v, k in zip(cpd.variables, cell, strict=True)}
            assert read.get_value(**where) == pytest.approx(cpd.values[cell], abs=1e-6)
