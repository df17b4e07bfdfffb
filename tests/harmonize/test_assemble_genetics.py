"""Every choice between facts about karyotypes and genes, from facts alone."""

from decimal import Decimal
from typing import Any

import pytest

from harmonize.events import Fact, Item, State, Variant
from tests.harmonize.facts import SF3B1, TP53, cell, codes, fact, made

KARYOTYPES: list[tuple[list[Item], dict[str, tuple[Any, State]], set[tuple[str, str]]]] = [
    (
        [fact(Fact.KARYOTYPE, "46,XX,del(5)(q13q33)[10]/46,XX[10]")],
        {
            "cyto_del5q": (1.0, State.VALUE),
            "cyto_del17p": (0.0, State.TESTED_NEGATIVE),
            "cyto_normal": (0.0, State.TESTED_NEGATIVE),
            "cyto_abnormalities": (1.0, State.VALUE),
            "cyto_ipssr_class": (1.0, State.VALUE),
            "cyto_t4_14": (None, State.NOT_TESTED),  # banding hardly ever shows it
        },
        set(),
    ),
    (
        [fact(Fact.KARYOTYPE, "no metaphases")],
        {"cyto_del5q": (None, State.NOT_TESTED), "cyto_normal": (None, State.NOT_TESTED)},
        {("karyotype-failed", "karyotype")},
    ),
    (
        [fact(Fact.KARYOTYPE, "lorem ipsum")],
        {"cyto_del5q": (None, State.INVALID)},
        {("karyotype-unparsed", "karyotype")},
    ),
    (
        [fact(Fact.KARYOTYPE, "46,XX,del(5)(q13q33),inc[10]")],
        {
            "cyto_del5q": (1.0, State.VALUE),
            "cyto_normal": (0.0, State.TESTED_NEGATIVE),
            "cyto_del17p": (None, State.UNKNOWN),
            "cyto_abnormalities": (None, State.UNKNOWN),
        },
        set(),
    ),
    (  # the nearest counts; one that cannot be read does not stand in its way
        [
            fact(Fact.KARYOTYPE, "lorem ipsum", 0),
            fact(Fact.KARYOTYPE, "46,XX[20]", -5),
            fact(Fact.KARYOTYPE, "46,XX,del(5)(q13q33)[10]", 60),
        ],
        {"cyto_del5q": (0.0, State.TESTED_NEGATIVE), "cyto_normal": (1.0, State.VALUE)},
        {("karyotype-unparsed", "karyotype")},
    ),
    (
        [fact(Fact.KARYOTYPE, "46,XX[20]", 91)],
        {"cyto_del5q": (None, State.NOT_RECORDED)},
        {("outside-window", "karyotype")},
    ),
    (  # two of one day: what they agree on
        [fact(Fact.KARYOTYPE, "46,XX[20]"), fact(Fact.KARYOTYPE, "46,XX,del(5)(q13q33)[10]", line=3)],
        {
            "cyto_del5q": (None, State.INVALID),
            "cyto_del17p": (0.0, State.TESTED_NEGATIVE),
        },
        {("conflicting-values", f"cyto_{name}") for name in ("del5q", "normal", "abnormalities")},
    ),
    (
        [fact("cyto_del5q", True), fact("cyto_t4_14", False, state=State.TESTED_NEGATIVE)],
        {
            "cyto_del5q": (1.0, State.VALUE),
            "cyto_t4_14": (0.0, State.TESTED_NEGATIVE),
            "cyto_del17p": (None, State.NOT_RECORDED),
        },
        set(),
    ),
    (  # hybridisation finds what banding does not
        [fact(Fact.KARYOTYPE, "46,XX[20]"), fact("cyto_del5q", True), fact("cyto_ipssr_class", "2")],
        {"cyto_del5q": (1.0, State.VALUE), "cyto_ipssr_class": (2.0, State.VALUE)},
        {("finding-disagrees", "cyto_del5q"), ("finding-disagrees", "cyto_ipssr_class")},
    ),
    (
        [fact(Fact.KARYOTYPE, "46,XX,del(5)(q13q33)[10]"), fact("cyto_del5q", False)],
        {"cyto_del5q": (1.0, State.VALUE)},
        {("finding-disagrees", "cyto_del5q")},
    ),
    (
        [fact("cyto_del5q", True), fact("cyto_del5q", False)],
        {"cyto_del5q": (None, State.INVALID)},
        {("conflicting-values", "cyto_del5q")},
    ),
    (
        [fact("cyto_ipssr_class", "5"), fact(Fact.KARYOTYPE, "no metaphases")],
        {"cyto_ipssr_class": (None, State.INVALID)},
        {("range-hard", "cyto_ipssr_class"), ("karyotype-failed", "karyotype")},
    ),
]


@pytest.mark.parametrize(("facts", "cells", "issues"), KARYOTYPES)
def test_cytogenetic_findings(
    facts: list[Item], cells: dict[str, tuple[Any, State]], issues: set[tuple[str, str]]
) -> None:
    table, assembled = made(*facts)

    assert {name: cell(table, name) for name in cells} == cells
    assert codes(assembled) == issues


NEGATIVE, NOTHING, UNTESTED = (0.0, State.TESTED_NEGATIVE), (None, State.NOT_RECORDED), (None, State.NOT_TESTED)
FOUND = (1.0, State.VALUE)
VARIANTS: list[tuple[list[Item], dict[str, tuple[Any, State]], set[str]]] = [
    ([], {"tp53": NOTHING, "tp53_vaf": NOTHING, "sf3b1": NOTHING}, set()),
    (  # absent is not negative
        [fact(Fact.VARIANT, Variant(TP53, True, Decimal("0.31"), "p.R175H"))],
        {"tp53": FOUND, "tp53_vaf": (0.31, State.VALUE), "tp53_multi": (None, State.UNKNOWN), "sf3b1": UNTESTED},
        set(),
    ),
    ([fact(Fact.GENES_TESTED, frozenset({SF3B1}))], {"sf3b1": NEGATIVE, "tp53": UNTESTED}, set()),
    ([fact(Fact.VARIANT, Variant(TP53, present=False))], {"tp53": NEGATIVE, "tp53_vaf": NEGATIVE}, set()),
    ([fact(Fact.VARIANT, Variant(TP53, present=None))], {"tp53": (None, State.UNKNOWN)}, set()),
    ([fact(Fact.GENES_TESTED, state=State.NOT_TESTED)], {"tp53": UNTESTED, "sf3b1": UNTESTED}, set()),
    ([fact(Fact.GENES_TESTED, frozenset({TP53}), 91)], {"tp53": NOTHING}, {"outside-window"}),
    (
        [fact("tp53", True), fact("sf3b1", False, state=State.TESTED_NEGATIVE)],
        {"tp53": FOUND, "sf3b1": NEGATIVE, "tp53_vaf": NOTHING},
        set(),
    ),
    ([fact("tp53", "0.4"), fact("sf3b1", "0.01"), fact("tp53_vaf", "0.4")],  # little is not nothing
     {"tp53": FOUND, "sf3b1": (None, State.UNKNOWN), "tp53_vaf": (0.4, State.VALUE)}, set()),
    ([fact("tp53", "0.02"), fact("sf3b1", "0")], {"tp53": FOUND, "sf3b1": NEGATIVE}, set()),
    ([fact("sf3b1", "0.01"), fact(Fact.GENES_TESTED, frozenset({SF3B1}))], {"sf3b1": NEGATIVE}, set()),
    ([fact("tp53_vaf", True)], {"tp53_vaf": (None, State.UNKNOWN)}, set()),
    ([fact("tp53", "40")], {"tp53": (None, State.INVALID)}, {"range-hard"}),
    (
        [fact("tp53", False), fact(Fact.VARIANT, Variant(TP53, True, Decimal("0.3"), "p.R175H"))],
        {"tp53": FOUND},
        {"finding-disagrees"},
    ),
    (  # one mutation and the other copy lost
        [
            fact(Fact.VARIANT, Variant(TP53, True, Decimal("0.3"), "p.R175H")),
            fact(Fact.KARYOTYPE, "46,XX,del(17)(p12)[10]"),
        ],
        {"tp53_multi": FOUND},
        set(),
    ),
    (
        [fact(Fact.VARIANT, Variant(TP53, True, Decimal("0.3"), "p.R175H")), fact("cyto_del17p", True)],
        {"tp53_multi": FOUND},
        set(),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "cells", "issues"), VARIANTS)
def test_variants(facts: list[Item], cells: dict[str, tuple[Any, State]], issues: set[str]) -> None:
    table, assembled = made(*facts)

    assert {name: cell(table, name) for name in cells} == cells
    assert {code for code, _ in codes(assembled)} == issues
