"""The typed report: what is counted, what is suspected, what is stored, what leaves as an OperationOutcome."""

from __future__ import annotations

import doctest
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome
from hypothesis import given
from hypothesis import strategies as st

from harmonize.errors import TableError
from harmonize.events import Event, Issue, Pointer, State
from harmonize.profile import load
from harmonize.reporting import describe, disclosure, tally
from harmonize.reporting.describe import five_numbers, quality
from harmonize.reporting.issues import CODES, Check
from harmonize.reporting.quality import Flow, Karyotypes, Quality, Tally, VariableQuality
from harmonize.reporting.tally import shown
from harmonize.variables import LabVariable, VariantVariable

PROFILE = load("aml_core")
MDS = load("mds")


def report(*issues: Issue) -> Quality:
    tally = Tally()
    for issue in issues:
        tally.add(issue)
    variables = (
        VariableQuality("wbc", "White blood cells", {"value": 3, "not-tested": 2, "below-limit": 1}, {"/uL": 4}),
    )
    return Quality.of(PROFILE, Flow(7, {"index-diagnosis-missing": 1}, 6, 4), variables, tally)


def described(tally: Tally, rows: int = 40, **states: State) -> Quality:
    """Everything is a value of 0, but for variables whose state is given."""
    columns: dict[str, list[object]] = {}
    for variable in MDS.variables:
        columns[variable.name] = [0.0] * rows
        columns[f"{variable.name}__m"] = [int(states.get(variable.name, State.VALUE))] * rows
    return quality(MDS, Flow(rows, {}, rows, 0), columns, tally)


def of(report: Quality, name: str) -> VariableQuality:
    return next(variable for variable in report.variables if variable.name == name)


def test_issues_are_counted_not_kept() -> None:
    quality = report(*(Issue("range-soft", Pointer("a.csv", line, "WBC"), "wbc") for line in range(2, 1002)))

    (finding,) = quality.findings
    assert finding.count == 1000
    assert finding.places == tuple(f"a.csv:{line}" for line in range(2, 12))
    assert quality.count("range-soft") == quality.count("range-soft", "wbc") == 1000
    assert quality.count("range-soft", "age") == 0
    assert quality.variables[0].usable == 4
    assert quality.variables[0].missing == {"not-tested": 2}


@given(st.permutations([("range-soft", "wbc"), ("unit-missing", "wbc"), ("structure", ""), ("patient-duplicate", "")]))
def test_the_order_of_the_source_does_not_matter(order: list[tuple[str, str]]) -> None:
    issues = [Issue(code, Pointer("a.csv", 3, "x"), variable) for code, variable in order]

    assert report(*issues).findings == report(*reversed(issues)).findings


def test_the_outcome_is_fhir() -> None:
    for found in (report(), report(*(Issue(code, Pointer("a.csv", 1, "x"), "wbc") for code in CODES))):
        outcome = OperationOutcome.model_validate(json.loads(found.operation_outcome_json()))
        assert len(outcome.issue) == max(1, len(found.findings))


def test_worst_first() -> None:
    quality = report(*(Issue(code, Pointer("a.csv", 1)) for code in sorted(CODES)))

    ranks = [["fatal", "error", "warning", "information"].index(finding.severity) for finding in quality.findings]
    assert ranks == sorted(ranks)


def test_every_finding_says_what_became_of_the_data() -> None:
    # https://hl7.org/fhir/R4/codesystem-issue-type.html
    types = {
        "invalid", "structure", "required", "value", "invariant", "security", "processing", "not-supported",
        "duplicate", "multiple-matches", "not-found", "code-invalid", "extension", "too-costly", "business-rule",
        "conflict", "incomplete", "informational", "too-long",
    }  # fmt: skip
    for code, kind in CODES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", code)
        assert kind.type in types
        assert kind.meaning
        assert kind.remedy
        assert "|" not in kind.meaning + kind.remedy  # both stand in tables


def test_checks_follow_the_taxonomy() -> None:
    expected = {
        "number-malformed": Check.CONFORMANCE,
        "unit-unknown": Check.CONFORMANCE,
        "unit-missing": Check.COMPLETENESS,
        "index-diagnosis-missing": Check.COMPLETENESS,
        "range-hard": Check.PLAUSIBILITY,
        "death-before-diagnosis": Check.PLAUSIBILITY,
        "unit-suspect": Check.PLAUSIBILITY,
        "patient-duplicate": Check.UNIQUENESS,
        "multiple-matches": Check.UNIQUENESS,
        "patient-unresolved": Check.LINKAGE,
    }

    assert {code: CODES[code].check for code in expected} == expected
    assert {kind.check for kind in CODES.values()} == set(Check)


def test_a_report_is_read_back_as_it_was_written() -> None:
    tally = Tally()
    tally.add(Issue("range-soft", Pointer("a.csv", 2, "Hb"), "hb"))
    tally.karyotype("parsed")
    written = described(tally)

    assert Quality.from_json(written.to_json()) == written
    assert described(tally).to_json() == written.to_json()


def test_a_file_name_that_is_no_text_does_not_stop_a_report() -> None:
    found = report(Issue("structure", Pointer("\udcff.ndjson", 3)))

    assert Quality.from_json(found.to_json()) == found
    assert found.operation_outcome_json()


def test_doctests() -> None:
    for module in (tally, describe, disclosure):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"format": "haemfed/quality/0", "quality": {}}', b"\xff", b'[{"quality": 1}]']
)
def test_a_damaged_report_is_refused(data: bytes) -> None:
    with pytest.raises(TableError, match="harmonise the source again"):
        Quality.from_json(data)


def test_a_stored_report_of_another_version_is_refused() -> None:
    with pytest.raises(TableError):
        Quality.from_json(report().to_json().replace(b"haemfed/quality/1", b"haemfed/quality/9"))


def test_a_stored_report_with_a_code_of_another_version_is_refused() -> None:
    with pytest.raises(TableError):
        Quality.from_json(report(Issue("structure", Pointer("a"))).to_json().replace(b"structure", b"structures"))


@pytest.mark.parametrize(
    ("declared", "median", "suspect"),
    [
        ("g/dL", "97", "g/L"),  # a hospital that exports g/L and declares g/dL
        ("g/dL", "6.0", "mmol/L"),
        ("g/L", "97", ""),
        ("mmol/L", "6.0", ""),
        ("g/dL", "9.7", ""),
        ("g/dL", "9000", ""),  # in no unit of the profile: the hard range speaks
    ],
)
def test_a_unit_is_suspected_by_the_median(declared: str, median: str, suspect: str) -> None:
    tally = Tally()
    for step in range(-10, 11):
        tally.measured("hb", declared, Decimal(median) * (100 + step) / 100)

    found = described(tally)
    assert of(found, "hb").suspect == suspect
    assert found.count("unit-suspect", "hb") == bool(suspect)


def test_counted_together_is_counted_one_by_one() -> None:
    places = [Pointer("lab\udcff.csv", line % 13, "hb") for line in range(1, 40)]
    together, apart = Tally(), Tally()
    for each in (together, apart):
        each.add(Issue("outside-window", Pointer("lab.csv", 99, "hb"), "hb"))
    together.add_equal(Issue("outside-window", places[0], "hb", len(places)), places)
    together.measured("hb", "g/dL", Decimal("9.7"), 3)
    together.seen(*(Event("p", "hb", None, place) for place in places))
    for place in places:
        apart.add(Issue("outside-window", place, "hb"))
        apart.seen(Event("p", "hb", None, place))
    for _ in range(3):
        apart.measured("hb", "g/dL", Decimal("9.7"))

    assert together.findings() == apart.findings()
    assert (together.findings()[0].count, len(together.findings()[0].places)) == (40, 10)
    assert (together.units("hb"), together.codes("hb")) == (apart.units("hb"), apart.codes("hb"))


def test_few_measurements_are_not_suspected() -> None:
    tally = Tally()
    for _ in range(9):
        tally.measured("hb", "g/dL", Decimal(97))

    assert of(described(tally), "hb").suspect == ""


@given(st.lists(st.decimals(Decimal("0.001"), Decimal(100_000), places=3), min_size=1, max_size=60))
def test_the_typical_size_is_the_median_to_six_per_cent(values: list[Decimal]) -> None:
    tally = Tally()
    for value in values:
        tally.measured("hb", "g/dL", value)
    found = tally.typical("hb", "g/dL")

    median = float(sorted(values)[(len(values) - 1) // 2])
    assert found is not None
    assert found == pytest.approx(median, rel=0.07)


def test_a_tally_does_not_grow_with_the_source() -> None:
    tally = Tally()
    for number in range(10_000):
        tally.seen(Event("p", "hb", Decimal(number), Pointer("a.csv", number, "Hb")))
        tally.measured("hb", "g/dL", Decimal(5 + number % 10))
        tally.add(Issue("range-soft", Pointer("a.csv", number, "Hb"), "hb"))

    assert sum(map(len, (tally._counts, tally._codes))) == 2
    assert len(tally._sizes["hb", "g/dL"]) <= 10


def test_zero_is_no_size() -> None:
    tally = Tally()
    tally.measured("hb", "g/dL", Decimal(0))

    assert tally.typical("hb", "g/dL") is None
    assert tally.units("hb") == {"g/dL": 1}


def test_where_the_source_has_it() -> None:
    tally = Tally()
    tally.seen(Event("p", "hb", Decimal(9), Pointer("a", 1, "x"), code="http://loinc.org|718-7"))
    tally.seen(Event("p", "hb", Decimal(9), Pointer("a.csv", 1, "Hb")))
    tally.measured("hb", "g/L", Decimal(90))
    hb = of(described(tally), "hb")

    assert hb.codes == {"Hb": 1, "http://loinc.org|718-7": 1}
    assert (hb.units, hb.converted, hb.unit) == ({"g/L": 1}, 1, "g/dL")


def test_five_numbers_need_five_patients_and_a_quantity() -> None:
    assert five_numbers([1.0, 2.0, 3.0, 4.0]) is None
    assert five_numbers([0.0, 1.0] * 9) is None
    assert "3.0" not in repr(five_numbers([1.0, 2.0, 3.0, 4.0, 5.0]))


def test_coverage_counts_only_evidence() -> None:
    gene = next(variable for variable in MDS.variables if isinstance(variable, VariantVariable))
    same = {each.name for each in MDS.variables if isinstance(each, VariantVariable) and each.gene == gene.gene}

    def found(state: State) -> tuple[int, int]:
        covered = described(Tally(), **dict.fromkeys(same, state)).genes
        (one,) = [each for each in covered if each.hgnc == gene.gene.hgnc]
        return one.tested, one.found

    assert found(State.VALUE) == (40, 40)
    assert found(State.TESTED_NEGATIVE) == (40, 0)
    assert found(State.NOT_TESTED) == found(State.NOT_RECORDED) == found(State.INVALID) == (0, 0)


def test_karyotypes() -> None:
    tally = Tally()
    for outcome in ["parsed"] * 3 + ["karyotype-failed", "karyotype-unparsed"]:
        tally.karyotype(outcome)

    assert described(tally).karyotypes == Karyotypes(3, 1, 1)
    assert Karyotypes(3, 1, 1).rate == 0.75
    assert Karyotypes(0, 1, 0).rate is None


def test_too_sparse_is_what_a_study_refuses() -> None:
    required = next(each for each in MDS.variables if isinstance(each, LabVariable) and each.tier == "A")
    assert of(described(Tally(), **{required.name: State.NOT_TESTED}), required.name).too_sparse
    assert not of(described(Tally()), required.name).too_sparse
    half = {"value": 5, "not-recorded": 5}
    assert VariableQuality("a", "", half, {}, tier="A", max_missing=0.4).too_sparse
    assert not VariableQuality("a", "", half, {}, tier="A", max_missing=0.5).too_sparse
    assert not VariableQuality("a", "", half, {}, tier="B", max_missing=0.4).too_sparse
    assert not VariableQuality("a", "", {}, {}, tier="A", max_missing=0.4).too_sparse


@given(st.text(max_size=200))
def test_what_is_shown_is_short_printable_and_no_formula(text: str) -> None:
    once = shown(text)

    assert len(once) <= 81
    assert once.isprintable() or not any(ord(each) < 32 or each in "\u2028\u202e\x7f" for each in once)
    assert once.lstrip()[:1] not in {"=", "+", "-", "@"}


def test_a_place_keeps_its_line() -> None:
    tally = Tally()
    tally.add(Issue("structure", Pointer("folder/" * 20 + "labs.csv", 471_100)))
    outcome = Quality.of(MDS, Flow(1, {}, 1, 0), (), tally).operation_outcome()

    assert "…:471100;" in outcome["issue"][0]["diagnostics"]
    assert len(shown("x" * 200 + ":12")) == 80
    assert len(shown("x" * 200 + ":" + "1" * 200)) == 80


def test_the_taxonomy_has_a_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "issues.md").read_text(encoding="utf-8")

    assert all(f"| `{code}` |" in page for code in CODES), "run: make docs"
