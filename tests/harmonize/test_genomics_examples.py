"""The examples of Genomics Reporting and mCODE themselves, and the traps in them."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harmonize import karyotype
from harmonize.events import Event, Fact, Variant
from harmonize.genetics.genes import HGNC
from harmonize.genetics.genomics import Genes
from tests.harmonize.test_fhir_genomics import PROFILE, read


def _folder(name: str) -> Path:
    folder = Path(os.environ.get("HAEMFED_DATA", "absent")) / "fhir" / name / "example"
    if not folder.is_dir():
        pytest.skip(f"the examples of {name} are not on this machine (set HAEMFED_DATA)")
    return folder


def _observations(raw: Any) -> Iterator[dict[str, Any]]:
    if isinstance(raw, dict):
        if raw.get("resourceType") == "Observation":
            yield raw
        for value in raw.values():
            yield from _observations(value)
    elif isinstance(raw, list):
        for value in raw:
            yield from _observations(value)


def _example(guide: str, name: str) -> tuple[list[Event], list[str]]:
    return read(json.loads((_folder(guide) / f"Observation-{name}.json").read_text()))


# With a variable for every gene; symbols that only the unused genes have are unknown (POLRMT under an NCBI id).
EXAMPLES = {
    "genomics-reporting-3.0.0": {
        Fact.VARIANT: 44,
        Fact.KARYOTYPE: 2,
        "variant-germline": 17,
        "vaf-unit-uncoded": 6,
        "gene-unknown": 4,
    },
    "mcode-4.0.0": {
        Fact.VARIANT: 24,
        Fact.GENES_TESTED: 3,
        "code-display-mismatch": 4,
        "variant-several-genes": 4,
        "gene-unknown": 2,
        "variant-germline": 1,
    },
}


@pytest.mark.parametrize(("guide", "files"), [("genomics-reporting-3.0.0", 204), ("mcode-4.0.0", 179)])
def test_every_example_passes(guide: str, files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted(_folder(guide).glob("*.json"))
    assert len(paths) == files
    every = frozenset(range(1, 100_000))
    monkeypatch.setattr(Genes, "of", classmethod(lambda cls, profile: Genes(every, {})))
    kinds: Counter[str] = Counter()
    for path in paths:
        for raw in _observations(json.loads(path.read_text())):
            found, issues = read(raw)
            kinds.update([event.variable for event in found] + issues)

    assert kinds == EXAMPLES[guide]


def test_swapped_codes_of_mcode() -> None:
    found, issues = _example("mcode-4.0.0", "gx-genomic-variant-pertinent-negative-nras-kit-braf")

    # The AML profile has variables for all three; the codes decide, whatever the displays say.
    assert {event.value.hgnc for event in found if isinstance(event.value, Variant)} == {
        HGNC[name] for name in ("NRAS", "KIT", "BRAF") if HGNC[name] in Genes.of(PROFILE).wanted
    }
    assert {event.value.present for event in found if isinstance(event.value, Variant)} == {False}
    assert issues == ["code-display-mismatch", "code-display-mismatch"]


def test_present_does_not_mean_abnormal() -> None:
    found, issues = _example("genomics-reporting-3.0.0", "ISCN-NormalExample")

    assert [(event.variable, event.value) for event in found] == [(Fact.KARYOTYPE, "46,XX")]
    assert issues == []
    assert karyotype.parse("46,XX").features["normal"] == 1


def test_fusions_of_mcode_are_no_mutations() -> None:
    found, issues = _example("mcode-4.0.0", "gx-genomic-variant-fusion-ETV6-RUNX1-brian-l")

    assert (found, issues) == ([], ["variant-several-genes"])


def test_vaf_of_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    every = frozenset(range(1, 100_000))
    monkeypatch.setattr(Genes, "of", classmethod(lambda cls, profile: Genes(every, {})))

    found, issues = _example("genomics-reporting-3.0.0", "EGFR-L858R-var")
    assert [event.value.vaf for event in found if isinstance(event.value, Variant)] == [Decimal("0.066")]
    assert issues == ["vaf-unit-uncoded"]
    found, issues = _example("mcode-4.0.0", "gx-genomic-variant-somatic-bap1-indel")
    assert [event.value.vaf for event in found if isinstance(event.value, Variant)] == [Decimal("0.574")]
    assert issues == []


def test_a_transposed_id_of_genomics_reporting(monkeypatch: pytest.MonkeyPatch) -> None:
    # MSH2-del-var has HGNC:7235 under the display MSH2, whose id is 7325.
    monkeypatch.setattr(Genes, "of", classmethod(lambda cls, profile: Genes(frozenset({7325}), {"MSH2": 7325})))

    assert _example("genomics-reporting-3.0.0", "MSH2-del-var") == ([], ["code-display-mismatch"])
