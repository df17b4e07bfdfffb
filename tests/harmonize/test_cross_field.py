"""Values of one patient that cannot, or should not, stand together: what is reported, and what becomes of them."""

from typing import Any

import pytest

from harmonize.cohort.checks import RULES, SHOWN
from harmonize.events import Event, Fact, Item, Pointer, State
from harmonize.karyotype import FEATURES
from harmonize.profile import Profile, load
from harmonize.reporting.issues import CODES
from tests.harmonize.facts import cell, codes, fact, finding, lab, made, make_profile, mutation

NPM1 = 7910
STAGE = {
    "name": "iss",
    "title": "t",
    "tier": "B",
    "kind": "code",
    "values": {"I": 1, "II": 2, "III": 3},
    "scale": {"centre": 2, "spread": 1, "clip": [1, 3], "source": "test"},
    "missing": {"policy": "mask", "fill": "centre", "max_rate": 1},
}
LABS = ["bm_blast", "anc", "mono", "mono_share", "flc_ratio", "flc_kappa", "flc_lambda", "b2m", "albumin"]


def profile(name: str) -> Profile:
    variables = [
        *(lab(variable, "nearest") for variable in LABS),
        STAGE,
        finding("t8_21"),
        mutation("mut_npm1", NPM1, "any"),
    ]
    return make_profile(*variables, name=name, outcomes=[])


def said(stage: str) -> Item:
    return fact("iss", None).__class__("p", "iss", stage, fact("iss").where)


def white(count: str) -> Item:
    return fact("wbc", count, unit="10*9/L")


CASES: list[tuple[str, list[Item], str]] = [
    ("mds", [fact("bm_blast", "19.9")], ""),
    ("mds", [fact("bm_blast", "20")], "blasts-against-diagnosis"),
    ("cmml", [fact("bm_blast", "20")], "blasts-against-diagnosis"),
    ("aml", [fact("bm_blast", "20")], ""),
    ("aml", [fact("bm_blast", "19.9")], "blasts-against-diagnosis"),
    ("aml", [fact("bm_blast", "9"), fact(Fact.KARYOTYPE, "46,XX,t(8;21)(q22;q22)[20]")], ""),
    ("aml", [fact("bm_blast", "9"), fact("cyto_t8_21", True)], ""),
    ("aml", [fact("bm_blast", "9"), fact("cyto_t8_21", False)], "blasts-against-diagnosis"),
    ("aml", [fact("bm_blast", "9"), fact("mut_npm1", True)], ""),
    ("mds", [fact(Fact.KARYOTYPE, "46,XX,t(8;21)(q22;q22)[20]")], "lesion-against-diagnosis"),
    ("aml", [fact(Fact.KARYOTYPE, "46,XX,t(8;21)(q22;q22)[20]")], ""),
    ("cmml", [fact("mono", "0.4")], "monocytes-against-diagnosis"),
    ("cmml", [fact("mono", "0.5")], ""),
    ("cmml", [fact("mono", "0.5"), fact("mono_share", "9")], "monocytes-against-diagnosis"),
    ("cmml", [fact("mono", "0.5"), fact("mono_share", "10")], ""),
    ("mds", [fact("mono", "0.4")], ""),
    ("mds", [white("4"), fact("anc", "3"), fact("mono", "1.3")], ""),
    ("mds", [white("4"), fact("anc", "3"), fact("mono", "1.31")], "differential-exceeds-total"),
    ("mds", [white("4"), fact("anc", "3", 1), fact("mono", "2")], ""),  # of two days
    ("mds", [white("4"), fact("anc", "9")], ""),
    ("mm", [fact("flc_kappa", "100"), fact("flc_lambda", "10"), fact("flc_ratio", "11.5")], ""),
    ("mm", [fact("flc_kappa", "100"), fact("flc_lambda", "10"), fact("flc_ratio", "11.51")], "ratio-disagrees"),
    ("mm", [fact("flc_kappa", "100"), fact("flc_lambda", "10"), fact("flc_ratio", "1")], "ratio-disagrees"),
    ("mm", [fact("flc_kappa", "100"), fact("flc_lambda", "0"), fact("flc_ratio", "500")], ""),
    ("mm", [fact("b2m", "3.4"), fact("albumin", "35"), said("I")], ""),
    ("mm", [fact("b2m", "3.4"), fact("albumin", "34"), said("II")], ""),
    ("mm", [fact("b2m", "3.5"), fact("albumin", "40"), said("II")], ""),
    ("mm", [fact("b2m", "5.5"), fact("albumin", "40"), said("III")], ""),
    ("mm", [fact("b2m", "5.4"), fact("albumin", "40"), said("III")], "stage-disagrees"),
    ("mm", [fact("b2m", "3.4"), fact("albumin", "35"), said("II")], "stage-disagrees"),
    ("mds", [fact("sex", "female"), fact(Fact.KARYOTYPE, "46,XY[20]")], "sex-against-karyotype"),
    ("mds", [fact("sex", "male"), fact(Fact.KARYOTYPE, "46,XX[20]")], "sex-against-karyotype"),
    ("mds", [fact("sex", "female"), fact(Fact.KARYOTYPE, "46,XX[20]")], ""),
    ("mds", [fact("sex", "other"), fact(Fact.KARYOTYPE, "46,XX[20]")], ""),
    ("mds", [fact("sex", "male"), fact(Fact.KARYOTYPE, "45,X,-Y[20]")], ""),  # loss of Y is real
]


@pytest.mark.parametrize(("name", "facts", "code"), CASES)
def test_rules(name: str, facts: list[Item], code: str) -> None:
    _, assembled = made(*facts, profile=profile(name))
    found = {finding for finding, _ in codes(assembled)} - {"range-soft"}

    assert found == ({code} if code else set())


def test_every_rule_is_broken_by_a_case() -> None:
    own = {"", "origin-disagrees"}  # has a test of its own below
    assert {rule.code for rule in RULES} - own == {code for *_, code in CASES} - own


def test_what_becomes_of_the_values_is_what_the_report_says() -> None:
    facts = [fact("flc_kappa", "100"), fact("flc_lambda", "10"), fact("flc_ratio", "1")]
    table, assembled = made(*facts, profile=profile("mm"))

    assert cell(table, "flc_ratio") == (None, State.INVALID)
    assert cell(table, "flc_kappa") == (100.0, State.VALUE)
    (found,) = [finding for finding in assembled.quality.findings if finding.code == "ratio-disagrees"]
    assert (found.variable, found.places) == ("flc_ratio", ("f:2",))
    for rule in RULES:
        assert ("not used" in CODES[rule.code].meaning) == bool(rule.drops)


def test_rules_name_variables_of_shipped_profiles() -> None:
    shipped = {name: load(name) for name in ("aml", "cmml", "mds", "mm")}

    for rule in RULES:
        wanted = set(rule.needs) - set(SHOWN)
        asked: list[Any] = [shipped[name] for name in rule.profiles] or list(shipped.values())
        assert any(wanted <= set(profile.names) for profile in asked), rule.code
        assert set(rule.profiles) <= shipped.keys()
    assert {name.removeprefix("karyotype:") for name in SHOWN} <= FEATURES.keys() | {"male"}


@pytest.mark.parametrize(
    ("vaf", "gene", "expected"),
    [
        ("0.3", False, (None, State.INVALID)),
        ("0.01", False, (0.0, State.TESTED_NEGATIVE)),
        ("0", False, (0.0, State.TESTED_NEGATIVE)),
        ("0.3", True, (1.0, State.VALUE)),
    ],
)
def test_a_gene_with_a_fraction_is_not_unmutated(vaf: str, gene: bool, expected: tuple[Any, State]) -> None:
    table, assembled = made(fact("tp53_vaf", vaf), fact("tp53", gene))
    assert cell(table, "tp53") == expected
    assert (("gene-disagrees", "tp53") in codes(assembled)) == (expected[1] is State.INVALID)


@pytest.mark.parametrize(("name", "gene"), [("mut_flt3_itd", "mut_flt3"), ("mut_kmt2a_ptd", "mut_kmt2a")])
def test_a_gene_with_a_finding_of_its_own_is_not_unmutated(name: str, gene: str) -> None:
    table, _ = made(fact(name, True), fact(gene, False), profile=load("aml"))
    assert cell(table, gene) == (None, State.INVALID)
    assert cell(table, name) == (1.0, State.VALUE)


@pytest.mark.parametrize(("secondary", "broken"), [("no", True), ("yes", False)])
def test_what_follows_therapy_is_secondary(secondary: str, broken: bool) -> None:
    stated = {"secondary": secondary, "therapy_related": "yes"}
    events = [Event("p", name, text, Pointer("f", 2)) for name, text in stated.items()]
    _, assembled = made(*events, profile=load("mds"))
    assert (("origin-disagrees", "secondary") in codes(assembled)) == broken
