"""Cells of some ten thousand characters: the time grows with their length, not with its square."""

import io
import time

import pytest

from harmonize import genomics
from harmonize import mapping as mappings
from harmonize.events import Variant
from harmonize.profile import load
from harmonize.sources import variants
from tests.harmonize.patients import SYSTEM

AML = load("aml")
SECONDS = 1.0  # the square took seven and more


@pytest.mark.parametrize("text", ["dup" * 7000, "duplication" * 2000, "ITDx" * 5000, "exon 1 " * 3000])
@pytest.mark.parametrize("column", ["effect", "protein", "coding"])
def test_words_of_a_variant(text: str, column: str) -> None:
    wanted = [variable for variable in AML.scalars if variable.name in ("mut_kmt2a_ptd", "mut_flt3_itd")]
    start = time.perf_counter()
    for variable in wanted:
        gene = getattr(variable, "gene").hgnc  # noqa: B009  only variants have one
        genomics.value(variable, [Variant(gene, present=True, **{column: text})], [gene], None)  # type: ignore[arg-type]
    assert len(wanted) == 2
    assert time.perf_counter() - start < SECONDS


@pytest.mark.parametrize("blank", [" ", "_", "-"])
def test_name_of_a_gene(blank: str) -> None:
    patient = mappings.CsvPatient(system=SYSTEM, column="id")
    source = mappings.Variants(format="variants", files=("v.csv",), patient=patient, gene="g")
    start = time.perf_counter()
    list(variants.read(io.BytesIO(f"id,g\nA,x{blank * 20_000}x\n".encode()), source, AML))
    assert time.perf_counter() - start < SECONDS
