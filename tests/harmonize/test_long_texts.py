"""Cells of some hundred thousand characters: time that grew with the square of their length would be minutes."""

import io

import pytest

from harmonize import mapping as mappings
from harmonize.events import Variant
from harmonize.genetics import genomics
from harmonize.profile import load
from harmonize.sources import variants
from tests.harmonize.patients import SYSTEM
from tests.sweeps import thinned

AML = load("aml")
pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(
    "text", thinned(["dup" * 70_000, "duplication" * 20_000, "ITDx" * 50_000, "exon 1 " * 30_000], 2)
)
@pytest.mark.parametrize("column", ["effect", "protein", "coding"])
def test_words_of_a_variant(text: str, column: str) -> None:
    wanted = [variable for variable in AML.scalars if variable.name in ("mut_kmt2a_ptd", "mut_flt3_itd")]
    for variable in wanted:
        gene = getattr(variable, "gene").hgnc  # noqa: B009  only variants have one
        genomics.value(variable, [Variant(gene, present=True, **{column: text})], [gene], None)  # type: ignore[arg-type]
    assert len(wanted) == 2


@pytest.mark.parametrize("blank", [" ", "_", "-"])
def test_name_of_a_gene(blank: str) -> None:
    patient = mappings.CsvPatient(system=SYSTEM, column="id")
    source = mappings.Variants(format="variants", files=("v.csv",), patient=patient, gene="g")
    list(variants.read(io.BytesIO(f"id,g\nA,x{blank * 100_000}x\n".encode()), source, AML))
