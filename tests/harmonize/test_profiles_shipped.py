"""The packaged disease profiles: what they hold, and that units and constants are what their sources say."""

import os
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harmonize import profile as profiles
from harmonize.genetics.genes import SYMBOL
from harmonize.karyotype import FEATURES
from harmonize.profile import CodeVariable, LabVariable, Profile
from harmonize.units import convert
from harmonize.variables import CytogeneticVariable, VariantVariable

PROFILES: Final = {name: profiles.load(name) for name in ("mds", "aml", "cmml", "mm", "aml_core")}
DISEASES: Final = ("mds", "aml", "cmml", "mm")
# Frozen: a released profile never changes in place. Edit it, raise its version, and only then its line.
DIGESTS: Final = {
    "mds": ("1.1.0", "212cb828f6eb05f7c74fbc46859ac0e2c72d00ec3c91a9d780d0afcfa68ad8ee"),
    "aml": ("1.1.0", "b73bfa6fcff7a6641d167545d7fedb58ebe40146442a980b4144ba11e45f3d97"),
    "cmml": ("1.1.0", "ea6ecf789fbb0c89bda1012e242c9e2e21f9fccdb0a21243a43f7b3684dddb59"),
    "mm": ("1.0.0", "1d44bdc21787389f973abd78383112b4d62ed0d15124a375920e367d76791e77"),
}

# What a score needs. The names are the profiles' own.
MYELOID_COUNTS: Final = ("hb", "plt", "anc", "bm_blast")
IPSSM_GENES: Final = (
    "flt3", "flt3_itd", "flt3_tkd", "kmt2a_ptd", "tp53_multihit", "tp53_vaf", "sf3b1", "npm1", "runx1", "nras", "etv6",
    "idh2", "cbl", "ezh2", "u2af1", "srsf2", "dnmt3a", "asxl1", "kras", "bcor", "bcorl1", "cebpa", "etnk1", "gata2",
    "gnb1", "idh1", "nf1", "phf6", "ppm1d", "prpf8", "ptpn11", "setbp1", "stag2", "wt1",
)  # fmt: skip
SCORES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("mds", "IPSS-R"): (*MYELOID_COUNTS, "cyto_ipssr_class", "age"),
    ("mds", "IPSS-M"): ("hb", "plt", "bm_blast", "cyto_ipssr_class", "cyto_del5q", *(f"mut_{g}" for g in IPSSM_GENES)),
    ("aml", "ELN 2022"): (
        "cyto_t8_21", "cyto_inv16", "cyto_t15_17", "cyto_t9_11", "cyto_kmt2a_r", "cyto_mecom_r", "cyto_t6_9",
        "cyto_t9_22", "cyto_inv3",
        "cyto_minus5", "cyto_del5q", "cyto_minus7", "cyto_del17p", "cyto_complex", "cyto_monosomal", "mut_npm1",
        "mut_flt3_itd", "mut_cebpa_bzip", "mut_asxl1", "mut_bcor", "mut_ezh2", "mut_runx1", "mut_sf3b1", "mut_srsf2",
        "mut_stag2", "mut_u2af1", "mut_zrsr2", "mut_tp53", "mut_tp53_vaf",
    ),
    ("cmml", "CPSS"): ("who2016", "bm_blast", "wbc", "cyto_normal", "cyto_minus_y", "cyto_plus8", "cyto_minus7",
                       "cyto_del7q", "cyto_complex", "transfusion_dependent"),
    ("cmml", "CPSS-Mol"): ("bm_blast", "wbc", "transfusion_dependent", "mut_asxl1", "mut_nras", "mut_runx1",
                           "mut_setbp1", "cyto_plus8", "cyto_minus7", "cyto_del7q", "cyto_complex"),
    ("mm", "ISS"): ("b2m", "albumin"),
    ("mm", "R-ISS"): ("b2m", "albumin", "ldh_ratio", "cyto_del17p", "cyto_t4_14", "cyto_t14_16"),
    ("mm", "R2-ISS"): ("b2m", "albumin", "ldh_ratio", "cyto_del17p", "cyto_t4_14", "cyto_gain1q"),
}  # fmt: skip


@pytest.mark.parametrize("name", DISEASES)
def test_a_released_profile_has_not_changed(name: str) -> None:
    assert (PROFILES[name].version, PROFILES[name].digest) == DIGESTS[name]


def test_only_what_practically_every_registry_has_is_required() -> None:
    blood = {"age", "sex", "hb", "wbc", "plt", "bm_blast"}
    required = {name: {v.name for v in PROFILES[name].inputs if v.tier == "A"} for name in DISEASES}

    assert required == {"mds": blood, "aml": blood, "cmml": blood, "mm": {"age", "sex"}}


@pytest.mark.parametrize("name", DISEASES)
def test_no_model_sees_a_category_without_an_order(name: str) -> None:
    nominal = [v for v in PROFILES[name].scalars if isinstance(v, CodeVariable) and len(v.values) > 2 and not v.ordinal]

    assert {v.tier for v in nominal} <= {"C"}
    assert not {v.name for v in nominal} & {v.name for v in PROFILES[name].inputs}


def test_the_profiles_together_ask_for_every_feature_of_a_karyotype() -> None:
    asked = {v.feature for p in PROFILES.values() for v in p.variables if isinstance(v, CytogeneticVariable)}

    # What the tokeniser may learn beyond these is no column until a version of a profile asks for it.
    assert len(asked) == 36
    assert asked <= set(FEATURES)


@pytest.mark.parametrize("name", ["mds", "aml", "cmml"])
def test_about_fifty_driver_genes(name: str) -> None:
    variants = [v for v in PROFILES[name].variables if isinstance(v, VariantVariable)]
    genes = {v.gene.hgnc for v in variants}

    assert len(genes) == 52
    assert set(PROFILES[name].panels["myeloid"].genes) == genes
    assert {v.feature for v in variants} == {"any", "itd", "tkd", "ptd", "multi-hit", "bzip", "biallelic", "vaf"}
    assert all(v.name.startswith(f"mut_{SYMBOL[v.gene.hgnc].lower()}") for v in variants)


@pytest.mark.parametrize(("name", "score"), SCORES)
def test_the_inputs_of_published_scores_are_there(name: str, score: str) -> None:
    assert set(SCORES[name, score]) <= set(PROFILES[name].names)


def test_outcomes() -> None:
    outcomes = {name: [o.name for o in PROFILES[name].outcomes] for name in DISEASES}
    leukaemia = PROFILES["aml"].diagnosis.codes

    assert outcomes == {
        "mds": ["hsct", "transformation"],
        "aml": ["hsct"],
        "cmml": ["hsct", "transformation"],
        "mm": ["hsct"],
    }
    for name in ("mds", "cmml"):
        transformation = PROFILES[name].outcomes[1].codes
        assert {system: transformation[system] for system in leukaemia} == leukaemia


@pytest.mark.parametrize("name", ["aml", "aml_core"])
def test_myeloid_sarcoma_and_acute_panmyelosis_are_acute_myeloid_leukaemia(name: str) -> None:
    # WHO 2016 (Arber 2016) lists both under AML; the German and American editions add a digit for the remission.
    codes = PROFILES[name].diagnosis.codes

    for code in ("C92.3", "C94.4"):
        assert code in codes["icd10"]
        assert {code, f"{code}0", f"{code}1"} <= set(codes["icd10gm"])
        assert {f"{code}0", f"{code}1", f"{code}2"} <= set(codes["icd10cm"])


def test_one_code_means_one_variable_in_every_profile() -> None:
    owners: dict[tuple[str, str], str] = {}
    for name in DISEASES:
        for code, variable in PROFILES[name].coded.items():
            assert owners.setdefault(code, variable.name) == variable.name
    diagnoses = [PROFILES[name].diagnoses for name in DISEASES]
    assert len(frozenset().union(*diagnoses)) == sum(map(len, diagnoses))


@pytest.mark.parametrize("name", DISEASES)
def test_linked_feature_files(name: str) -> None:
    (vector,) = PROFILES[name].features

    assert (vector.modality, vector.length) == (("radiomics", 31) if name == "mm" else ("histopathology", 768))
    assert vector.tier == "B"


# --- the canonical form ---

_PRINT: Final = (
    "import sys, yaml\n"
    "if sys.argv[1] == 'pure': del yaml.CSafeLoader\n"
    "from harmonize import profile\n"
    "print(*(profile.load(name).digest for name in sys.argv[2:]))"
)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "loader"), [("0", "libyaml"), ("1", "libyaml"), ("2", "pure")])
def test_the_digest_depends_neither_on_the_hash_seed_nor_on_the_loader(seed: str, loader: str) -> None:
    command = [sys.executable, "-c", _PRINT, loader, *DISEASES]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert printed.split() == [PROFILES[name].digest for name in DISEASES]


def test_profiles_are_read_by_libyaml_where_it_is() -> None:
    assert len(profiles.load("aml").variables) > 100
    assert profiles._SafeLoader is getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # seven times faster


# --- units: UCUM as oracle ---

# By UCUM an annotation alone is the unit 1; the oracle leaves it as text.
ANNOTATIONS: Final = frozenset({"{score}", "{ratio}"})
# Moles to mass: which mass a mole has is not UCUM's business. Grams per mole, and whence.
MOLAR_MASS: Final = {
    ("hb", "mmol/L"): (16_114, "haemoglobin per iron: a quarter of the tetramer of 64,456 g/mol"),
    ("b2m", "nmol/L"): (11_800, "beta-2-microglobulin (UniProt P61769: 99 residues, 11.7 to 11.8 kDa)"),
    ("ferritin", "pmol/L"): (445_000, "ferritin (AMA Manual of Style: 1 ng/mL is 2.247 pmol/L)"),
    ("creatinine", "mg/dL"): (Decimal("113.12"), "creatinine C4H7N3O (IUPAC atomic weights)"),
    ("creatinine", "mg/L"): (Decimal("113.12"), "creatinine C4H7N3O (IUPAC atomic weights)"),
    ("calcium", "mg/dL"): (Decimal("40.078"), "calcium (IUPAC atomic weights)"),
    ("calcium", "mg/L"): (Decimal("40.078"), "calcium (IUPAC atomic weights)"),
}
# Spellings that are UCUM with another meaning, which is why they are aliases and never units.
MISREAD: Final = {
    ("G/L", "10*9/L"): "gauss", ("G/l", "10*9/L"): "gauss", ("K/uL", "10*3/uL"): "kelvin",
    ("u/L", "U/L"): "atomic mass unit", ("mg%", "mg/dL"): "a mass without a volume",
    ("U/L", "[IU]/L"): "enzyme unit", ("U/l", "[IU]/L"): "enzyme unit",
    ("mU/mL", "m[IU]/mL"): "enzyme unit", ("mU/ml", "m[IU]/mL"): "enzyme unit",
}  # fmt: skip


def labs() -> list[LabVariable]:
    """Every measurement of every profile, once per table of units."""
    found = {repr(v.units) + v.name: v for p in PROFILES.values() for v in p.variables if isinstance(v, LabVariable)}
    return list(found.values())


@pytest.fixture(scope="module")
def ucum() -> Any:
    """The oracle; its registry takes about three seconds."""
    from ucumvert import PintUcumRegistry

    return PintUcumRegistry()


def in_ucum(ucum: Any, unit: str) -> Any:
    return ucum.from_ucum("1" if unit in ANNOTATIONS else unit)


@pytest.mark.slow
@pytest.mark.parametrize("lab", labs(), ids=lambda lab: lab.name)
def test_every_factor_agrees_with_ucum(ucum: Any, lab: LabVariable) -> None:
    canonical = in_ucum(ucum, lab.unit)
    for unit, factor in lab.units.items():
        quantity = in_ucum(ucum, unit)
        if (lab.name, unit) in MOLAR_MASS:
            assert quantity.dimensionality != canonical.dimensionality
            mass, _ = MOLAR_MASS[lab.name, unit]
            per_mole = float(str(mass)) * ucum.from_ucum("g/mol")
            amount = "[substance]" in quantity.dimensionality
            converted = (quantity * per_mole if amount else quantity / per_mole).to(canonical.units).magnitude
            # A rounded constant: the last of its own digits at most.
            assert abs(converted - float(factor)) <= 10 ** int(factor.as_tuple().exponent)
        else:
            assert quantity.dimensionality == canonical.dimensionality, unit
            converted = quantity.to(canonical.units).magnitude / canonical.magnitude
            assert converted == pytest.approx(float(factor), rel=1e-9), unit


@pytest.mark.slow
@pytest.mark.parametrize("lab", labs(), ids=lambda lab: lab.name)
def test_an_alias_that_ucum_reads_too_means_the_same_or_is_a_known_trap(ucum: Any, lab: LabVariable) -> None:
    for alias, unit in lab.unit_aliases.items():
        try:
            quantity = in_ucum(ucum, alias)
        except Exception:  # noqa: BLE001, S112  the oracle has a tree of errors for what is no UCUM
            continue
        if not hasattr(quantity, "dimensionality"):
            continue  # an annotation alone
        target = in_ucum(ucum, unit)
        same = quantity.dimensionality == target.dimensionality
        assert same == ((alias, unit) not in MISREAD), alias
        if same:
            assert quantity.to(target.units).magnitude == pytest.approx(target.magnitude, rel=1e-9), alias


def test_rounding_is_finer_than_what_a_model_sees() -> None:
    for lab in labs():
        if lab.unit != "{score}":
            assert Decimal(1).scaleb(-lab.decimals) <= lab.scale.spread / 100, lab.name


@given(st.sampled_from(labs()), st.decimals(0, 10**6, places=6), st.data())
def test_a_spelling_never_changes_a_value(lab: LabVariable, value: Decimal, data: st.DataObject) -> None:
    unit = data.draw(st.sampled_from(sorted(lab.units)))
    spellings = [unit, *(alias for alias, target in lab.unit_aliases.items() if target == unit)]
    converted = {convert(value, f" {spelling} ", lab) for spelling in spellings}

    assert converted == {value * lab.units[unit]}
    assert convert(value, lab.unit, lab) == value


@given(st.sampled_from(labs()), st.text(max_size=8))
def test_what_is_not_listed_is_not_converted(lab: LabVariable, unit: str) -> None:
    listed = unit.strip() in {*lab.units, *lab.unit_aliases}

    assert (convert(Decimal(1), unit, lab) is not None) == listed


@pytest.mark.slow
def test_no_trap_is_a_unit(ucum: Any) -> None:
    for lab in labs():
        assert not {"G/L", "G/l", "T/L", "K/uL", "mg%", "u/L"} & lab.units.keys()
    assert "gauss" in str(ucum.from_ucum("G/L").units)  # the reason


# --- constants: the cohorts that they come from ---

_ROOT: Final = os.environ.get("HAEMFED_DATA")
_LOG: Final = ("wbc", "anc", "mono", "plt", "ldh")
_COLUMNS: Final = {
    "hb": "clin_hb", "wbc": "clin_wbc", "plt": "clin_plt", "anc": "clin_anc", "mono": "clin_monocytes",
    "ldh": "clin_ldh", "bm_blast": "clin_bm_blast", "pb_blast": "clin_pb_blast",
    "ring_sideroblasts": "clin_ringed_sideroblasts", "cyto_ipssr_class": "cyto_ipssr",
}  # fmt: skip


def _cohort(name: str) -> pd.DataFrame:
    folder = "aml_beataml2" if name == "aml" else "mds_iwgpm"
    table = pd.read_parquet(Path(_ROOT or "", folder, "patients.parquet"))
    chosen = table["stage"] == "Initial Diagnosis" if name == "aml" else table["disease"] == name.upper()
    return table[chosen]


@pytest.mark.skipif(_ROOT is None, reason="HAEMFED_DATA names no folder with the public cohorts")
@pytest.mark.parametrize("name", ["mds", "aml", "cmml"])
def test_centre_and_spread_are_the_cohorts_rounded(name: str) -> None:
    cohort = _cohort(name)
    checked = 0
    for variable in PROFILES[name].scalars:
        source = variable.scale.source
        if not source.startswith(("IWG-PM", "BeatAML 2.0, ")) or variable.name not in _COLUMNS or "widened" in source:
            continue
        values = cohort[_COLUMNS[variable.name]].dropna().astype(float).to_numpy()
        values = np.log1p(values) if variable.scale.transform == "log1p" else values
        assert abs(values.mean() - float(variable.scale.centre)) < 0.1 * values.std()
        assert float(variable.scale.spread) == pytest.approx(values.std(), rel=0.1)
        low, high = (float(bound) for bound in variable.scale.clip)
        raw = np.expm1(values) if variable.scale.transform == "log1p" else values
        assert ((raw >= low - 1e-9) & (raw <= high + 1e-9)).mean() > 0.995
        checked += 1

    assert checked >= 6


def test_every_constant_names_a_public_source() -> None:
    for profile in PROFILES.values():
        for variable in profile.scalars:
            assert variable.scale.source.startswith(("by definition", "IWG-PM", "BeatAML 2.0", "rounded from BeatAML"))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_centre_lies_inside_its_clip(profile: Profile) -> None:
    for variable in profile.scalars:
        scale = variable.scale
        if isinstance(variable, CodeVariable) and variable.tier == "C":
            continue
        low, high = (float(bound) for bound in scale.clip)
        if scale.transform == "log1p":
            low, high = np.log1p(low), np.log1p(high)
        assert low <= float(scale.centre) <= high, variable.name
        # Ten spreads at most: what a model sees stays of order one.
        assert max(high - float(scale.centre), float(scale.centre) - low) <= 15 * float(scale.spread), variable.name
