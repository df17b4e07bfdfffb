"""Rows of variants: declared, never guessed; who was tested is said by the mapping, never by the rows."""

import io
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize import sources
from harmonize.errors import MappingError, SourceError
from harmonize.events import Event, Fact, Issue, Item, PatientRecord, Pointer, State, Variant
from harmonize.genetics import genomics
from harmonize.genetics.genes import HGNC, hgnc
from harmonize.mapping import Variants
from harmonize.profile import VariantVariable
from harmonize.reporting.issues import CODES
from harmonize.sources import variants

PROFILE = profiles.load("mds")
SYSTEM = "urn:test:hospital"
MAPPING: dict[str, Any] = {
    "format": "variants",
    "files": ["v.tsv"],
    "patient": {"system": SYSTEM, "column": "ID"},
    "csv": {"delimiter": "\t", "missing": {"NA": "not-recorded"}},
    "gene": "GENE",
    "protein": "P",
    "coding": "C",
    "effect": "E",
    "vaf": "VAF",
    "vaf_unit": "fraction",
}
HEADER = "ID\tGENE\tP\tC\tE\tVAF"


def read(*rows: str, header: str = HEADER, **changes: Any) -> list[Item]:
    mapping = Variants.model_validate(MAPPING | changes)
    items = list(variants.read(io.BytesIO("\n".join([header, *rows, ""]).encode()), mapping, PROFILE))
    assert all(item.code in CODES for item in items if isinstance(item, Issue))
    return items


def found(items: Sequence[Item]) -> list[Variant]:
    return [item.value for item in items if isinstance(item, Event) and isinstance(item.value, Variant)]


def issues(items: Sequence[Item]) -> list[tuple[str, int, str, int]]:
    return [(item.code, item.where.line, item.where.field, item.count) for item in items if isinstance(item, Issue)]


@pytest.mark.parametrize(
    "row",
    [
        "NPM1\tnot detected\t\t\t", "NPM1\twild type\t\t\t", "NPM1\tWT\t\t\t", "NPM1\t\t\tnegative\t",
        "NPM1\tkein Nachweis\t\t\t", "FLT3\t\t\tITD negative\t", "JAK2\tp.V617F\t\tnot detected\t",
        "NPM1\tno mutation\t\t\t", "NPM1\tnone\t\t\t",
    ],
)  # fmt: skip
def test_a_row_that_denies_the_variant_leaves_the_gene_open(row: str) -> None:
    items = read(f"p1\t{row}")

    assert found(items) == [Variant(HGNC[row.split(maxsplit=1)[0]], None)]
    assert [code for code, *_ in issues(items)] == ["variant-denied"]


@pytest.mark.parametrize(
    "row",
    ["TP53\tp.R248Q\t\tdominant negative missense\t", "WT1\t\t\tWT1 exon 7 frameshift\t", "NF1\t\t\tnonsense\t"],
)
def test_words_that_only_look_like_a_denial(row: str) -> None:
    items = read(f"p1\t{row}")

    assert [variant.present for variant in found(items)] == [True]
    assert not issues(items)


def test_a_row_is_a_finding() -> None:
    items = read("p1\tTP53\tNP_000537.3:p.R175H\tNM_000546.6:c.524G>A\tmissense_variant\t0.31")

    assert items == [
        Event(
            f"{SYSTEM}|p1",
            Fact.VARIANT,
            Variant(HGNC["TP53"], True, Decimal("0.31"), "p.R175H", "c.524G>A", "missense_variant"),
            Pointer("stream", 2, "GENE"),
        )
    ]


def test_only_the_gene_is_required() -> None:
    plain = Variants.model_validate({key: MAPPING[key] for key in ("format", "files", "patient", "csv", "gene")})
    items = list(variants.read(io.BytesIO(b"GENE\tID\nTP53\tp1\n"), plain, PROFILE))

    assert found(items) == [Variant(HGNC["TP53"])]


@pytest.mark.parametrize(
    ("text", "symbol", "effect"),
    [
        ("MLL", "KMT2A", ""),
        ("HGNC:7132", "KMT2A", ""),
        ("MLL_PTD", "KMT2A", "PTD"),
        ("KMT2A-PTD", "KMT2A", "PTD"),
        ("FLT3 ITD", "FLT3", "ITD"),
        ("flt3-tkd", "FLT3", "TKD"),
    ],
)
def test_names_of_genes(text: str, symbol: str, effect: str) -> None:
    assert found(read(f"p1\t{text}\t\t\t\t")) == [Variant(HGNC[symbol], effect=effect)]
    assert found(read(f"p1\t{text}\t\t\tx\t"))[0].effect == f"{effect} x".strip()


def test_unknown_genes_are_counted_once_and_unused_ones_are_left_out() -> None:
    items = read("p1\tNOSUCH\t\t\t\t", "p1\tABCDEF9\t\t\t\t", "p1\tBRCA1\t\t\t\t", "p1\tTP53\t\t\t\t")

    assert found(items) == [Variant(HGNC["TP53"])]
    assert issues(items) == [("gene-unknown", 2, "GENE", 2)]


def test_a_gene_that_became_a_date_is_named() -> None:
    assert issues(read("p1\t1-Mar\t\t\t\t")) == [("excel-date-damage", 2, "GENE", 1)]


@pytest.mark.parametrize(
    ("text", "unit", "expected", "issue"),
    [
        ("0.31", "fraction", "0.31", None),
        ("31", "percent", "0.31", None),
        ("0.31", "percent", "0.0031", None),
        ("31", "fraction", None, "vaf-range"),
        ("1", "fraction", "1", None),
        ("101", "percent", None, "vaf-range"),
        ("-0.1", "fraction", None, "vaf-range"),
        ("0,31", "fraction", None, "number-malformed"),
        ("31 %", "percent", None, "number-malformed"),
        ("<0.02", "fraction", "0.02", None),
        ("NA", "fraction", None, None),
        ("", "fraction", None, None),
    ],
)
def test_allele_fractions_are_in_the_declared_unit(
    text: str, unit: str, expected: str | None, issue: str | None
) -> None:
    items = read(f"p1\tTP53\t\t\t\t{text}", vaf_unit=unit)

    assert [variant.vaf for variant in found(items)] == [None if expected is None else Decimal(expected)]
    assert [(code, field) for code, _, field, _ in issues(items)] == ([] if issue is None else [(issue, "VAF")])


def test_rows_alone_are_no_evidence_of_absence() -> None:
    assert not [item for item in read("p1\tTP53\t\t\t\t") if isinstance(item, Event) and item.variable != Fact.VARIANT]


def test_a_panel_was_tested_in_every_patient_of_the_file() -> None:
    items = read("p1\tTP53\t\t\t\t", "p1\tFLT3\t\t\t\t", "p2\t\t\t\t\t", "p3\tNA\t\t\t\t", panel="ipssm")
    tested = [item for item in items if isinstance(item, Event) and item.variable == Fact.GENES_TESTED]

    assert [event.patient for event in tested] == [f"{SYSTEM}|p{number}" for number in (1, 2, 3)]
    assert {event.value for event in tested} == {
        genomics.Genes.of(PROFILE).wanted.intersection(PROFILE.panels["ipssm"].genes)
    }
    assert len(found(items)) == 2
    assert issues(items) == []


def test_duplications_were_looked_for_only_if_the_mapping_says_so() -> None:
    items = read("p1\tTP53\t\t\t\t", panel="ipssm", tandem_duplications=True)

    assert found(items) == [
        Variant(HGNC["FLT3"], present=False, effect="ITD"),
        Variant(HGNC["KMT2A"], present=False, effect="PTD"),
        Variant(HGNC["TP53"]),
    ]


def test_everyone_was_tested_only_if_the_mapping_says_so(tmp_path: Path) -> None:
    text = """
        profile = "mds"
        [[source]]
        format = "csv"
        files = ["patients.csv"]
        patient = {system = "urn:test:hospital", column = "id"}
        columns.index_date.column = "dx"
        [[source]]
        format = "variants"
        files = ["v.csv"]
        patient = {system = "urn:test:hospital", column = "id"}
        gene = "gene"
        panel = "ipssm"
    """
    (tmp_path / "patients.csv").write_text("id,dx\na,2020-01-01\nb,2020-01-01\n")
    (tmp_path / "v.csv").write_text("id,gene\na,TP53\n")

    for declared, patients in (("", ["a"]), ("everyone_tested = true", ["a", "b"])):
        mapping = mappings.loads(f"{text}\n{declared}", PROFILE)
        items = list(sources.read(tmp_path, mapping, PROFILE))
        records = [item for item in items if isinstance(item, PatientRecord)]
        tested = {item.patient for item in items if isinstance(item, Event) and item.variable == Fact.GENES_TESTED}
        assert tested == {f"{SYSTEM}|{patient}" for patient in patients}
        assert tested <= {key for record in records for key in record.keys}


def test_everyone_is_everyone_of_the_same_system() -> None:
    records = [PatientRecord((system,), system, "1", "", "", Pointer("x", 1)) for system in (SYSTEM, "urn:other")]
    source = Variants.model_validate(MAPPING | {"panel": "ipssm", "everyone_tested": True})
    tested = [item for item in variants.everyone(records, source, PROFILE) if isinstance(item, Event)]

    assert [event.patient for event in tested] == [SYSTEM]


def test_comments_before_the_header_are_skipped() -> None:
    data = f"#version 2.4\n#\n{HEADER}\np1\tTP53\t\t\t\t\n".encode()
    items = list(variants.read(io.BytesIO(data), Variants.model_validate(MAPPING), PROFILE))

    assert [item.where.line for item in items] == [4]


def test_bad_rows() -> None:
    good = ["p1\tTP53\t\t\t\t"] * 300
    items = read(*good, "p2\tTP53", "\tTP53\t\t\t\t", "1.23E+12\tTP53\t\t\t\t")

    assert [code for code, *_ in issues(items)] == ["row-ragged", "identifier-missing", "excel-identifier"]
    with pytest.raises(SourceError, match="1 of 2"):
        read("p1\tTP53\t\t\t\t", "p2\tTP53")


def test_bad_files() -> None:
    with pytest.raises(MappingError, match=r"protein names 'P', which is not in the header"):
        read(header="ID\tGENE\tC\tE\tVAF")
    with pytest.raises(MappingError, match="twice"):
        read(header=f"{HEADER}\tGENE")
    with pytest.raises(SourceError, match="empty"):
        list(variants.read(io.BytesIO(b""), Variants.model_validate(MAPPING), PROFILE))
    with pytest.raises(SourceError, match="utf-8"):
        list(variants.read(io.BytesIO(b"ID\tGENE\n\xff\xfe\xfa"), Variants.model_validate(MAPPING), PROFILE))


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_characters='\t\r\n\0"', codec="utf-8"), max_size=12), min_size=6, max_size=6
        ),
        max_size=8,
    )
)
def test_any_text_is_read_or_an_issue(rows: list[list[str]]) -> None:
    items = read(*("\t".join(row) for row in rows), panel="ipssm")

    for item in items:
        if isinstance(item, Issue):
            assert item.where.field in {"", "ID", "GENE", "VAF"}
        elif isinstance(item, Event) and isinstance(item.value, Variant):
            assert item.value.vaf is None or 0 <= item.value.vaf <= 1
    # No cell in a message: places and codes only.
    texts = {cell for row in rows for cell in row if len(cell) > 6}
    assert not any(text in repr(item) for text in texts for item in items)


# A real cohort


def _cohort() -> Path:
    folder = Path(os.environ.get("HAEMFED_DATA", "absent")) / "mds_iwgpm"
    if not folder.is_dir():
        pytest.skip("the MDS cohort is not on this machine (set HAEMFED_DATA)")
    return folder


@pytest.fixture(scope="module")
def cohort() -> tuple[Any, Mapping[str, list[Variant]], list[Issue]]:
    folder = _cohort()
    mapping = Variants.model_validate(
        MAPPING
        | {
            "protein": "PROTEIN_CHANGE",
            "coding": "cDNA_CHANGE",
            "effect": "EFFECT",
            "panel": "myeloid",
            "everyone_tested": True,
            "tandem_duplications": True,
        }
    )
    pandas = pytest.importorskip("pandas")
    patients = pandas.read_parquet(folder / "patients.parquet").set_index("patient_id")
    called: dict[str, list[Variant]] = defaultdict(list)
    odd: list[Issue] = []
    # Everyone had the panel, also who has no row.
    everyone = [PatientRecord((f"{SYSTEM}|{name}",), SYSTEM, name, "", "", Pointer("", 0)) for name in patients.index]
    rows = [*everyone, *variants.read(folder / "mutations_maf.tsv", mapping, PROFILE)]
    for item in variants.everyone(rows, mapping, PROFILE):
        if isinstance(item, Issue):
            odd.append(item)
        elif isinstance(item, Event) and isinstance(item.value, Variant):
            called[item.patient.removeprefix(f"{SYSTEM}|")].append(item.value)
    return patients, called, odd


def _agreement(variable: VariantVariable, columns: list[str], cohort: Any) -> float:
    patients, called, _ = cohort
    published = patients[columns].max(axis=1).astype(bool)
    loss = patients[["cyto_del17p", "cyto_del17"]].max(axis=1).astype(bool)
    same = 0
    for patient in patients.index:
        value, state = genomics.value(
            variable, called.get(patient, []), genomics.Genes.of(PROFILE).wanted, bool(loss[patient])
        )
        assert state in {State.VALUE, State.TESTED_NEGATIVE}
        same += value == published[patient]
    return same / len(patients)


def test_gene_flags_are_the_published_ones(cohort: Any) -> None:
    patients, _, odd = cohort
    assert [(issue.code, issue.count) for issue in odd] == [("gene-unknown", 253)]
    published: dict[int, list[str]] = defaultdict(list)
    for column in patients.columns:
        name = column.removeprefix("mut_").removesuffix("_ITD").removesuffix("_PTD")
        if column.startswith("mut_") and (gene := hgnc(name)) is not None:
            published[gene].append(column)
    shares = [
        _agreement(variable, published[variable.gene.hgnc], cohort)
        for variable in PROFILE.scalars
        if isinstance(variable, VariantVariable) and variable.feature == "any" and variable.gene.hgnc in published
    ]

    assert len(shares) >= 40
    assert sum(shares) / len(shares) >= 0.9995
    assert min(shares) >= 0.998


@pytest.mark.parametrize(
    ("name", "column", "least"),
    [
        ("mut_flt3_itd", "mut_FLT3_ITD", 1),
        ("mut_kmt2a_ptd", "mut_MLL_PTD", 1),
        ("mut_tp53_multihit", "mut_TP53multi", 0.99),
    ],
)
def test_features_are_the_published_ones(name: str, column: str, least: float, cohort: Any) -> None:
    variable = PROFILE.variable(name)
    assert isinstance(variable, VariantVariable)

    assert _agreement(variable, [column], cohort) >= least
