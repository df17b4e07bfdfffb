# ruff: noqa: E501, RUF001  rows of a Markdown table are one line each; minus is the sign of the formula
"""The page docs/reference/profiles.md: what every packaged profile holds, from the profiles themselves."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final, TypeVar

from harmonize.profile import CodeVariable, DerivedVariable, LabVariable, Profile, load
from harmonize.variables import Coded, Codes, CytogeneticVariable, Scale, VariantVariable

__all__ = ["DISEASES", "page"]

DISEASES: Final = ("mds", "aml", "cmml", "mm")
_V = TypeVar("_V", LabVariable, DerivedVariable, CytogeneticVariable, VariantVariable)
_OWN: Final = "urn:haemfed:codesystem:variables"

_INTRODUCTION: Final = """\
A profile is one disease's canonical table: which variables it has, under which codes and units, inside which bounds.
All sites of a study use one profile; its SHA-256 digest, over canonical JSON with its bases, is in the study, in every
table and in the model card. `haemfed harmonize lint` says what is wrong with one.

| Profile | Version | Disease | Columns | of them models see | Digest |
|---|---|---|---:|---:|---|
"""
_CHAIN: Final = """
`aml_core` (age, sex, white blood cells, deprivation index) is the profile of the demo.

```
common ─┬─ aml_core
        └─ haematology ─┬─ mm
                        └─ myeloid ─┬─ aml
                                    └─ dysplasia ─┬─ mds
                                                  └─ cmml
```

What is not a leaf has no version and is no profile. **Tier A**: a site that lacks the variable in more than the stated
share of its patients may not join. **Tier B**: optional. **Tier C**: for reports; no model sees it. Categories without
an order are always tier C.

A model sees (t(clip(v)) − centre) / spread, where t is log(1 + v) or nothing. A value that is not there is masked: its
input is 0, the centre. Centre, spread and clip bounds are public constants; the source of each is below. Nothing is
computed from a participating hospital's data.

## A profile of your own

A consortium that needs more writes a file that `extends` a packaged profile. It gives its own name, version and
title, adds variables, outcomes and panels, and may complete what the base left open. What the base has decided cannot
be decided again, so that two profiles never disagree about one name.

```yaml
profile: mds_north
version: 1.0.0
title: Myelodysplastic syndromes, with the slides of the north
extends: mds
complete:
  slide:
    encoder_sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
```
"""
_SCORES: Final = """
## Inputs of published scores

| Score | Profile | Variables |
|---|---|---|
| IPSS-R (Greenberg 2012), IPSS-RA with `age` | `mds` | `hb`, `plt`, `anc`, `bm_blast`, `cyto_ipssr_class` |
| IPSS-M (Bernard 2022) | `mds` | `hb`, `plt`, `bm_blast`, `cyto_ipssr_class`, `cyto_del5q` (with `mut_sf3b1`), `mut_tp53_multihit`, `mut_flt3_itd`, `mut_flt3_tkd`, `mut_kmt2a_ptd` and the genes of panel `ipssm` |
| ELN 2022 (Döhner 2022) | `aml` | `cyto_*`, `mut_npm1`, `mut_flt3_itd`, `mut_cebpa_bzip`, `mut_tp53` with `mut_tp53_vaf` (10 % or more), and the genes of panel `eln2022`; t(8;16) is not a variable |
| CPSS (Such 2013) | `cmml` | `who2016` or `bm_blast` and `pb_blast`, `wbc`, `cyto_*`, `transfusion_dependent` |
| CPSS-Mol (Elena 2016) | `cmml` | `bm_blast`, `wbc`, `transfusion_dependent`, `cyto_*`, `mut_asxl1`, `mut_nras`, `mut_runx1`, `mut_setbp1` |
| ISS (Greipp 2005) | `mm` | `b2m`, `albumin`; or `iss` itself |
| R-ISS (Palumbo 2015) | `mm` | ISS, `ldh_ratio` above 1, `cyto_del17p`, `cyto_t4_14`, `cyto_t14_16`; or `riss` itself |
| R2-ISS (D'Agostino 2022) | `mm` | ISS, `ldh_ratio` above 1, `cyto_del17p`, `cyto_t4_14`, `cyto_gain1q` |
"""
_MOLES: Final = """
A mole is turned into a mass with these molar masses, in g/mol: haemoglobin 16,114 (the monomer, per iron),
beta-2-microglobulin 11,800, ferritin 445,000, creatinine 113.12, calcium 40.078. All other factors are those of UCUM; a
test compares every one of them. A spelling that is UCUM for something else (`G/L` is gauss per litre, `K/uL` kelvin per
microlitre, `U/L` of erythropoietin an enzyme unit) is an alias of what laboratories mean, never a unit.
"""
_CYTOGENETICS: Final = """
## Cytogenetics

0 is *looked for and not found*; a karyotype that is not there is never 0. An Observation with the own code states a
single finding (FISH). See [karyotype](karyotype.md).

"""
_GENES: Final = """
## Genes

0 needs evidence that the gene was tested. Variants below an allele fraction of 0.02 do not count.

"""
_VECTORS: Final = """
`encoder_sha256` (of the weights) and `settings_sha256` are open: the consortium completes them. Radiomics are the 31
features of PyRadiomics that lie in [−1, 1] by their definition, so that their bounds need nobody's data; a consortium
that wants others defines a variable of its own.
"""
_UNUSED: Final = """
## Not verified, not used

Codes of LOINC, SNOMED CT, NCIt and ORPHA above were each seen in a public implementation guide or code list with the
meaning given here, and pass their check digit where they have one. Check them against your licensed terminology all
the same. LOINC is used under the licence of loinc.org; SNOMED CT needs a licence at the hospital. Left out:

| What | Codes | Why |
|---|---|---|
| ICD-O-3 morphology | 9980, 9982, 9983, 9985, 9986, 9989 (MDS); 9861, 9866, 9871, 9877, 9895, 9896, 9920 (AML); 9945 (CMML); 9732 (MM) | from memory; no check digit |
| ORPHA | 519 (AML), 86841 (MDS with del(5q)), 98823 (CMML) | from memory; no check digit |
| SNOMED CT, cytogenetic findings | 726372008, 726377002, 726384005 | display not seen |
| SNOMED CT, allogeneic transplantation | none | the one in circulation (444360002) fails its check digit |
| LOINC, single FISH probes | none | not verified; findings have codes of our own |
| LOINC, blasts as narrative or absolute count | 74233-8, 30376-8 | verified, another property |
| LOINC, lactate dehydrogenase by the reverse reaction | 14805-6 | verified, reads about twice as high: not interchangeable |
| HGNC | 6408 (MAFB), 19083 (CKS1B), 3498 (MECOM) | genes of rearrangements or copy number: see `cyto_t14_20`, `cyto_gain1q`, `cyto_mecom_r` |
"""


def page(generated: str) -> str:
    """Return the page; `generated` is the note that it is made from the code."""
    profiles = {name: load(name) for name in DISEASES}
    return "".join(
        [
            f"# Profiles\n\n{generated}{_INTRODUCTION}",
            *(f"{row}\n" for row in _heads(profiles)),
            _CHAIN,
            "\n## Measurements\n\nAccepted units with their factor; aliases are in the profile.\n\n",
            _table(("Variable", "What", "Unit", "Accepted", "Possible", "Codes", "Days, pick"), _labs(profiles)),
            _MOLES,
            "\n## Categories and ages\n\n",
            _table(("Variable", "What", "Values", "Codes", "Profiles"), _categories(profiles)),
            _CYTOGENETICS,
            _table(("Variable", "What", "Own code", "Profiles"), _cytogenetics(profiles)),
            _GENES,
            _table(("Variable", "What", "HGNC", "Names read", "Profiles"), _genes(profiles)),
            "\n## Panels\n\n",
            _table(("Panel", "What", "Genes", "Profiles"), _panels(profiles)),
            "\n## Linked feature files\n\n",
            _table(("Variable", "What", "Encoder", "Length", "Clip", "Profiles"), _vectors(profiles)),
            _VECTORS,
            *(_own(profile) for profile in profiles.values()),
            _SCORES,
            f"\n## The code system `{_OWN}`\n\nOur own codes, where no public system has one.\n\n",
            _table(("Code", "Meaning"), _own_codes(profiles)),
            _UNUSED,
        ]
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def _heads(profiles: dict[str, Profile]) -> Iterator[str]:
    for name, profile in profiles.items():
        counts = f"{len(profile.variables)} | {len(profile.inputs)}"
        yield f"| `{name}` | {profile.version} | {profile.title} | {counts} | `{profile.digest[:16]}…` |"


def _own(profile: Profile) -> str:
    """What differs between the diseases: scale and tier, diagnosis and outcomes."""
    seen = [v for v in profile.scalars if not isinstance(v, VariantVariable) and v.tier != "C"]
    rows = [
        (f"`{v.name}`", v.tier, _usual(v), _scale(v.scale), v.scale.source)
        for v in seen
        if not (isinstance(v, CytogeneticVariable) and v.scale.source.endswith("not found 0"))
    ]
    outcomes = [(f"`{profile.outcome.name}`", profile.outcome.title, "death, last follow-up")]
    outcomes += [(f"`{o.name}`", o.title, _codes(o.codes)) for o in profile.outcomes]
    return (
        f"\n## `{profile.profile}`\n\nIndex diagnosis: {profile.diagnosis.title}: {_codes(profile.diagnosis.codes)}.\n\n"
        + _table(("Outcome", "What", "Codes"), outcomes)
        + "\nFindings of karyotypes and genes are seen as 0 and 1, tier B; the rest:\n\n"
        + _table(("Variable", "Tier", "Usual", "Model sees", "Source of the constants"), rows)
    )


def _labs(profiles: dict[str, Profile]) -> Iterator[tuple[str, ...]]:
    for lab, _ in _once(profiles, LabVariable):
        units = ", ".join(f"`{unit}` {_number(factor)}" for unit, factor in lab.units.items())
        window = f"{_range(lab.select.window_days)}, {lab.select.pick}"
        yield f"`{lab.name}`", lab.title, f"`{lab.unit}`", units, _range(lab.hard), _codes(lab.codes), window


def _categories(profiles: dict[str, Profile]) -> Iterator[tuple[str, ...]]:
    for age, names in _once(profiles, DerivedVariable):
        yield f"`{age.name}`", f"{age.title}; {age.top_code} and over as {age.top_code}", _range(age.hard), "", names
    merged: dict[tuple[str, str, str, str], list[str]] = {}
    for name, profile in profiles.items():
        for variable in profile.scalars:
            if isinstance(variable, CodeVariable):
                values = ", ".join(f"`{category}` {number}" for category, number in variable.values.items())
                codes = _codes(variable.codes) + (", Patient.gender" if variable.patient_field else "")
                merged.setdefault((f"`{variable.name}`", variable.title, values, codes), []).append(name)
    for row, names_of in merged.items():
        yield *row, _names(names_of)


def _cytogenetics(profiles: dict[str, Profile]) -> Iterator[tuple[str, ...]]:
    for variable, names in _once(profiles, CytogeneticVariable):
        yield f"`{variable.name}`", variable.title, f"`{variable.codes['haemfed'][0]}`", names


def _genes(profiles: dict[str, Profile]) -> Iterator[tuple[str, ...]]:
    for variable, names in _once(profiles, VariantVariable):
        yield f"`{variable.name}`", variable.title, str(variable.gene.hgnc), ", ".join(variable.gene.symbols), names


def _panels(profiles: dict[str, Profile]) -> Iterator[tuple[str, ...]]:
    found: dict[str, tuple[str, str, list[str]]] = {}
    for name, profile in profiles.items():
        for key, panel in profile.panels.items():
            found.setdefault(key, (panel.title, str(len(panel.genes)), []))[2].append(name)
    for key, (title, count, names) in found.items():
        yield f"`{key}`", title, count, _names(names)


def _vectors(profiles: dict[str, Profile]) -> Iterator[tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, profile in profiles.items():
        for variable in profile.features:
            found.setdefault(variable.name, []).append(name)
    for key, names in found.items():
        vector = next(v for v in profiles[names[0]].features if v.name == key)
        yield f"`{key}`", vector.title, vector.encoder, str(vector.length), _range(vector.clip), _names(names)


def _own_codes(profiles: dict[str, Profile]) -> list[tuple[str, ...]]:
    found: dict[str, str] = {}
    for profile in profiles.values():
        for variable in profile.variables:
            if isinstance(variable, Coded):
                title = variable.title.partition("; no other")[0].replace("Entity by", "Subtype by")
                found |= dict.fromkeys(variable.codes.get("haemfed", ()), title)
        for outcome in profile.outcomes:
            found |= dict.fromkeys(outcome.codes.get("haemfed", ()), outcome.title)
    return [(f"`{code}`", title) for code, title in sorted(found.items())]


def _once(profiles: dict[str, Profile], kind: type[_V]) -> Iterator[tuple[_V, str]]:
    """Each variable of a kind once, with the profiles that have it."""
    found: dict[str, tuple[_V, list[str]]] = {}
    for name, profile in profiles.items():
        for variable in profile.scalars:
            if isinstance(variable, kind):
                found.setdefault(variable.name, (variable, []))[1].append(name)
    for variable, names in found.values():
        yield variable, _names(names)


def _names(names: list[str]) -> str:
    return "all" if len(names) == len(DISEASES) else ", ".join(f"`{name}`" for name in names)


def _codes(codes: Codes) -> str:
    return "; ".join(f"{system} {', '.join(values)}" for system, values in codes.items())


def _usual(variable: object) -> str:
    return _range(variable.soft) if isinstance(variable, LabVariable | DerivedVariable) else ""


def _scale(scale: Scale) -> str:
    value = "log(1 + v)" if scale.transform == "log1p" else "v"
    if scale.centre == 0 and scale.spread == 1:
        return f"{value}, v in {_range(scale.clip)}"
    return f"({value} − {_number(scale.centre)}) / {_number(scale.spread)}, v in {_range(scale.clip)}"


def _range(bounds: tuple[Decimal, Decimal] | tuple[int, int]) -> str:
    return f"{_number(bounds[0])} to {_number(bounds[1])}".replace("-", "−")


def _number(value: Decimal | int) -> str:
    return format(Decimal(value).normalize(), "f")
