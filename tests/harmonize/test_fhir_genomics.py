"""Genomics Reporting and mCODE: what an Observation becomes."""

import datetime as dt
import io
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize.events import Event, Fact, Issue, Pointer, State, Variant
from harmonize.genetics.genes import HGNC
from harmonize.mapping import Ndjson
from harmonize.reporting.issues import CODES
from harmonize.resources import Observation, Quantity
from harmonize.sources import ndjson
from harmonize.sources.fhir_genomics import concerns, events, fraction
from harmonize.table import build

PROFILE = profiles.load("aml")
WHERE = Pointer("x.ndjson", 1)
DAY = dt.date(2020, 1, 1)
GENE, CODING, PROTEIN, VAF, CHANGE, NAME, ORIGIN, ISCN = (
    "48018-6",
    "48004-6",
    "48005-3",
    "81258-6",
    "48019-4",
    "81252-9",
    "48002-0",
    "81291-7",
)
GENES = "http://www.genenames.org"
LOINC = "http://loinc.org"


def concept(system: str, code: str, display: str | None = None) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, **({} if display is None else {"display": display})}]}


def part(code: str, **value: Any) -> dict[str, Any]:
    return {"code": concept(LOINC, code), **value}


def gene(symbol: str, system: str = GENES, display: str | None = None) -> dict[str, Any]:
    return part(GENE, valueCodeableConcept=concept(system, f"HGNC:{HGNC[symbol]}", display or symbol))


def observation(code: str, *components: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "code": concept(LOINC, code), "component": components, **more}


def variant(presence: str, *components: dict[str, Any], **more: Any) -> dict[str, Any]:
    return observation("69548-6", *components, valueCodeableConcept=concept(LOINC, presence), **more)


PRESENT, ABSENT, NO_CALL, INDETERMINATE = "LA9633-4", "LA9634-2", "LA18198-4", "LA11884-6"


def read(raw: dict[str, Any]) -> tuple[list[Event], list[str]]:
    decoded = msgspec.json.decode(json.dumps(raw).encode(), type=Observation)
    items = list(events(decoded, "Patient/1", WHERE, DAY, PROFILE)) if concerns(decoded) else []
    assert all(item.code in CODES for item in items if isinstance(item, Issue))
    found = [item for item in items if isinstance(item, Event)]
    assert all((event.patient, event.time, event.where) == ("Patient/1", DAY, WHERE) for event in found)
    return found, [item.code for item in items if isinstance(item, Issue)]


def variants(raw: dict[str, Any]) -> tuple[list[Variant], list[str]]:
    found, issues = read(raw)
    return [event.value for event in found if isinstance(event.value, Variant)], issues


def test_a_variant_with_everything() -> None:
    found = variant(
        PRESENT,
        gene("FLT3"),
        part(CODING, valueCodeableConcept=concept("http://varnomen.hgvs.org", "NM_004119.3:c.2503G>T")),
        part(PROTEIN, valueCodeableConcept=concept("http://varnomen.hgvs.org", "NP_004110.2:p.Asp835Tyr")),
        part(VAF, valueQuantity={"value": 41.5, "unit": "%", "code": "%"}),
        part(CHANGE, valueCodeableConcept=concept("http://www.sequenceontology.org", "SO:1000002", "substitution")),
        part(ORIGIN, valueCodeableConcept=concept(LOINC, "LA6684-0", "Somatic")),
    )

    assert variants(found) == (
        [
            Variant(
                HGNC["FLT3"],
                True,
                Decimal("0.415"),
                "p.Asp835Tyr",
                "c.2503G>T",
                "substitution",
            )
        ],
        [],
    )


@pytest.mark.parametrize(
    ("code", "present"), [(PRESENT, True), (ABSENT, False), (NO_CALL, None), (INDETERMINATE, None)]
)
@pytest.mark.parametrize("system", [GENES, f"{GENES}/geneId", "https://www.genenames.org/geneId"])
def test_presence(code: str, present: bool | None, system: str) -> None:
    # Without a display: the id alone is enough.
    named = part(GENE, valueCodeableConcept=concept(system, f"HGNC:{HGNC['NPM1']}"))

    assert variants(variant(code, named)) == ([Variant(HGNC["NPM1"], present)], [])


def test_several_genes_absent_in_one_observation() -> None:
    found, issues = variants(variant(ABSENT, gene("NPM1"), gene("FLT3"), gene("TP53")))

    assert {(each.hgnc, each.present) for each in found} == {(HGNC[name], False) for name in ("NPM1", "FLT3", "TP53")}
    assert issues == []


@pytest.mark.parametrize("presence", [PRESENT, NO_CALL])
def test_a_fusion_is_no_mutation(presence: str) -> None:
    assert variants(variant(presence, gene("ETV6"), gene("RUNX1"))) == ([], ["variant-several-genes"])


def test_a_fusion_with_an_unknown_partner_is_none_either() -> None:
    partner = part(GENE, valueString="LOC1")

    assert variants(variant(PRESENT, gene("RUNX1"), partner)) == ([], ["gene-unknown", "variant-several-genes"])


def test_a_symbol_counts_where_there_is_no_id() -> None:
    by_symbol = part(GENE, valueCodeableConcept={"text": "MLL"})
    by_string = part(GENE, valueString="KMT2A")
    of_ncbi = part(GENE, valueCodeableConcept=concept("https://www.ncbi.nlm.nih.gov/gene", "4297", "KMT2A"))

    for named in (by_symbol, by_string, of_ncbi):
        assert variants(variant(PRESENT, named)) == ([Variant(HGNC["KMT2A"])], [])


def test_an_unknown_name_is_an_issue_and_an_unused_gene_is_none() -> None:
    assert variants(variant(PRESENT, part(GENE, valueString="1-Mar"))) == ([], ["gene-unknown"])
    assert variants(variant(PRESENT, part(GENE, valueCodeableConcept=concept(GENES, "HGNC:1100", "BRCA1")))) == ([], [])


def test_the_code_wins_over_its_display() -> None:
    assert variants(variant(PRESENT, gene("KIT", display="NRAS"))) == (
        [Variant(HGNC["KIT"])],
        ["code-display-mismatch"],
    )
    assert variants(variant(PRESENT, gene("RUNX1", display="RUNx1")))[1] == []
    assert variants(variant(PRESENT, gene("KMT2A", display="MLL")))[1] == []
    swapped = part(CHANGE, valueCodeableConcept=concept("http://www.sequenceontology.org", "SO:1000002", "wild type"))
    assert variants(variant(PRESENT, gene("KIT"), swapped)) == (
        [Variant(HGNC["KIT"], effect="substitution")],
        ["code-display-mismatch"],
    )
    worded = part(
        CHANGE, valueCodeableConcept=concept("http://www.sequenceontology.org", "SO:1000002", "point mutation")
    )
    assert variants(variant(PRESENT, gene("KIT"), worded))[1] == []
    odd = variant(PRESENT, gene("KIT"))
    odd["valueCodeableConcept"] = concept(LOINC, PRESENT, "Absent")
    assert variants(odd) == ([Variant(HGNC["KIT"])], ["code-display-mismatch"])


def test_germline_and_benign_variants_are_left_out() -> None:
    germline = part(ORIGIN, valueCodeableConcept=concept(LOINC, "LA6683-2"))
    benign = part("53037-8", valueCodeableConcept=concept(LOINC, "LA6675-8"))

    # No 0 of a panel beside it: the predisposition may be why there is a disease.
    assert variants(variant(PRESENT, gene("DDX41"), germline)) == (
        [Variant(HGNC["DDX41"], None)],
        ["variant-germline"],
    )
    assert variants(variant(PRESENT, gene("DDX41"), germline, benign)) == ([], ["variant-germline"])
    # Absent in the germline is no evidence about the leukaemia.
    assert variants(variant(ABSENT, gene("DDX41"), germline)) == ([], ["variant-germline"])
    assert variants(variant(PRESENT, gene("DDX41"), benign)) == ([], ["variant-benign"])


def test_a_present_variant_whose_name_denies_it() -> None:
    named = part(NAME, valueCodeableConcept={"text": "FLT3-ITD negative"})

    assert variants(variant(PRESENT, gene("FLT3"), named)) == ([Variant(HGNC["FLT3"], None)], ["variant-denied"])


def test_a_region_that_was_not_studied_is_no_evidence() -> None:
    reason = {"dataAbsentReason": concept("http://terminology.hl7.org/CodeSystem/data-absent-reason", "not-performed")}
    (event,), _ = read(observation("53041-0", gene("TP53"), **reason))
    assert (event.variable, event.value, event.state) == (Fact.GENES_TESTED, None, State.NOT_TESTED)


def test_a_reason_beside_an_answer_is_no_negative_result() -> None:
    system = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
    reason = {"dataAbsentReason": concept(system, "not-performed")}
    assert variants({**variant(ABSENT, gene("KIT")), **reason}) == ([], ["value-and-reason"])
    assert read(observation("53041-0", {**gene("TP53"), **reason})) == ([], [])
    assert read({**observation("33893-9"), "valueString": "46,XX[20]", **reason}) == ([], ["value-and-reason"])
    assert read(observation("33893-9", part(ISCN, valueString="46,XX[20]"), **reason)) == ([], ["value-and-reason"])


def test_a_variant_without_an_answer() -> None:
    assert variants(observation("69548-6", gene("KIT"))) == ([], ["variant-presence-unknown"])
    assert variants(variant("LA6576-8", gene("KIT"))) == ([], ["variant-presence-unknown"])
    reason = {"dataAbsentReason": concept("http://terminology.hl7.org/CodeSystem/data-absent-reason", "unknown")}
    assert variants(observation("69548-6", gene("KIT"), **reason)) == ([Variant(HGNC["KIT"], None)], [])


def test_itd_by_name() -> None:
    named = part(NAME, valueCodeableConcept={"text": "FLT3-ITD"})

    assert variants(variant(PRESENT, gene("FLT3"), named)) == ([Variant(HGNC["FLT3"], effect="FLT3-ITD")], [])


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (Quantity(0.066, unit="decimal"), (Decimal("0.066"), "vaf-unit-uncoded")),
        (Quantity(0.5), (Decimal("0.5"), "vaf-unit-uncoded")),
        (Quantity(0.2188, unit="relative frequency", code="1"), (Decimal("0.2188"), None)),
        (Quantity(57.4, unit="%", code="%"), (Decimal("0.574"), None)),
        (Quantity(47.0, code="%"), (Decimal("0.47"), None)),
        (Quantity(47.0, unit="%"), (Decimal("0.47"), None)),
        (Quantity(0.5, code="%"), (Decimal("0.005"), None)),
        (Quantity(1.0, code="1"), (Decimal(1), None)),
        (Quantity(1.1, code="1"), (None, "vaf-range")),
        (Quantity(47.0), (None, "vaf-range")),
        (Quantity(47.0, unit="decimal"), (None, "vaf-range")),
        (Quantity(100.5, code="%"), (None, "vaf-range")),
        (Quantity(-0.1, code="1"), (None, "vaf-range")),
        (Quantity(0.1, code="10*-3"), (None, "vaf-unit-unknown")),
        (Quantity(None, code="%"), (None, None)),
    ],
)
def test_fraction(quantity: Quantity, expected: tuple[Decimal | None, str | None]) -> None:
    assert fraction(quantity) == expected


@given(st.decimals(0, 1, places=4), st.sampled_from(["%", "1"]))
def test_the_same_fraction_in_both_units(value: Decimal, unit: str) -> None:
    assert fraction(Quantity(float(value * (100 if unit == "%" else 1)), code=unit)) == (value, None)


@given(st.floats(allow_nan=False), st.sampled_from(["%", "1", None, "L"]))
def test_a_fraction_lies_in_the_unit_interval(value: float, unit: str | None) -> None:
    found, issue = fraction(Quantity(value, code=unit))

    assert (0 <= found <= 1) if found is not None else issue in {"vaf-range", "vaf-unit-unknown"}


def test_a_bad_fraction_leaves_the_variant() -> None:
    bad = part(VAF, valueQuantity={"value": 47})

    assert variants(variant(PRESENT, gene("KIT"), bad)) == ([Variant(HGNC["KIT"])], ["vaf-range"])


def test_region_studied_is_a_list_of_tested_genes() -> None:
    found, issues = read(observation("53041-0", gene("KIT"), gene("NPM1")))

    assert [(event.variable, event.value) for event in found] == [
        (Fact.GENES_TESTED, frozenset({HGNC["KIT"], HGNC["NPM1"]}))
    ]
    assert issues == []


def test_one_component_may_list_genes_without_prefix() -> None:
    # mCODE's genomic-region-studied-jenny-m.
    codes = [{"system": GENES, "code": str(HGNC[name]), "display": name} for name in ("TP53", "NPM1")]
    found, _ = read(observation("53041-0", part(GENE, valueCodeableConcept={"coding": codes})))

    assert [event.value for event in found] == [frozenset({HGNC["TP53"], HGNC["NPM1"]})]


def test_single_mutations_looked_for_are_not_the_gene() -> None:
    tested = part("36908-2", valueCodeableConcept={"text": "JAK2 V617F"})

    assert read(observation("53041-0", gene("JAK2"), tested)) == ([], ["region-partial"])


def test_evidence_of_other_genes_only_is_none() -> None:
    other = part(GENE, valueCodeableConcept=concept(GENES, "HGNC:1100"))

    assert read(observation("53041-0", other)) == ([], [])
    assert read(observation("53041-0", part(GENE, valueString="panel 7"))) == ([], ["gene-unknown"])


@pytest.mark.parametrize("code", ["33893-9", "29770-5", "62356-1"])
@pytest.mark.parametrize(
    "value",
    [
        {"valueString": "46,XX[20]"},
        {"valueCodeableConcept": {"text": "46,XX[20]"}},
        {"valueCodeableConcept": concept("https://iscn.karger.com", "46,XX[20]", "female")},
        {"component": [part(ISCN, valueString=" 46,XX[20] ")]},
    ],
)
def test_karyotype(code: str, value: dict[str, Any]) -> None:
    found, issues = read({**observation(code), **value})

    assert [(event.variable, event.value, event.state) for event in found] == [
        (Fact.KARYOTYPE, "46,XX[20]", State.VALUE)
    ]
    assert issues == []


def test_karyotype_not_done() -> None:
    system = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
    for reason, state in (("not-performed", State.NOT_TESTED), ("unknown", State.UNKNOWN)):
        found, _ = read(observation("33893-9", dataAbsentReason=concept(system, reason)))
        assert [(event.value, event.state) for event in found] == [(None, state)]
    assert read(observation("33893-9")) == ([], [])


def test_iscn_in_any_observation() -> None:
    found, issues = read(variant(PRESENT, part(ISCN, valueCodeableConcept={"text": "45,XY,-7"})))

    assert [(event.variable, event.value) for event in found] == [(Fact.KARYOTYPE, "45,XY,-7")]
    assert issues == []
    assert read(variant(ABSENT, part(ISCN, valueString="45,XY,-7"))) == ([], ["value-and-reason"])
    assert [event.state for event in read(variant(NO_CALL, part(ISCN, valueString="45,XY")))[0]] == [State.UNKNOWN]


def test_what_is_not_ours_is_left_alone() -> None:
    assert read(observation("6690-2", valueQuantity={"value": 1})) == ([], [])
    assert not concerns(Observation())


def test_from_observations_to_the_table() -> None:
    subject = {"reference": "Patient/1"}
    common = {"status": "final", "subject": subject, "effectiveDateTime": "2010-01-02"}
    resources: list[dict[str, Any]] = [
        {"resourceType": "Patient", "id": "1", "identifier": [{"system": "urn:t", "value": "1"}]},
        {
            "resourceType": "Condition",
            "subject": subject,
            "code": concept("http://hl7.org/fhir/sid/icd-10", "C92.0"),
            "onsetDateTime": "2010-01-01",
        },
        variant(PRESENT, gene("FLT3"), part(NAME, valueCodeableConcept={"text": "FLT3-ITD"}), **common),
        variant(PRESENT, gene("TP53"), part(VAF, valueQuantity={"value": 70, "code": "%"}), **common),
        variant(ABSENT, gene("NPM1"), gene("KMT2A"), **common),
        variant(NO_CALL, gene("TET2"), **common),
        observation("53041-0", gene("RUNX1"), gene("FLT3"), **common),
        observation("33893-9", valueString="46,XX,t(8;21)(q22;q22)[20]", **common),
    ]
    text = f'format = "ndjson"\nprofile = "{PROFILE.profile}"\nfiles = ["*"]\npatient.system = "urn:t"\n'
    source = mappings.loads(text, PROFILE).sources[0]
    assert isinstance(source, Ndjson)
    lines = b"\n".join(json.dumps(resource).encode() for resource in resources)
    table, _ = build(ndjson.read(io.BytesIO(lines), source, PROFILE), PROFILE, bytes(32))
    row = table.arrow.to_pylist()[0]

    for name, expected in {
        "mut_flt3": (1, State.VALUE),
        "mut_flt3_itd": (1, State.VALUE),
        "mut_flt3_tkd": (0, State.TESTED_NEGATIVE),
        "mut_tp53_multihit": (1, State.VALUE),
        "mut_tp53_vaf": (0.7, State.VALUE),
        "mut_npm1": (0, State.TESTED_NEGATIVE),
        "mut_kmt2a_ptd": (0, State.TESTED_NEGATIVE),
        "mut_runx1": (0, State.TESTED_NEGATIVE),
        "mut_tet2": (None, State.UNKNOWN),
        "mut_kras": (None, State.NOT_TESTED),
        "cyto_t8_21": (1, State.VALUE),
        "cyto_inv16": (0, State.TESTED_NEGATIVE),
    }.items():
        assert (name, row[name], State(row[f"{name}__m"])) == (name, *expected)
