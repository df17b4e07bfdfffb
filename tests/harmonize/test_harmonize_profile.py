import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize import lint
from harmonize import profile as profiles
from harmonize.codes import RULES, loinc_is_well_formed, snomed_is_well_formed
from harmonize.errors import ProfileError
from harmonize.profile import LabVariable, Profile
from harmonize.units import convert, factor
from tests.sweeps import examples, thinned

PACKAGED = Path(profiles.__file__).parent / "profiles"
# Frozen: a released profile never changes in place. Edit it, raise its version, and only then this line.
AML_CORE = "3a6829ac31856f07b8dae77c234cecdf3c8640cb5bdcf0d8f48eaeccc32a6c6d"


def edited(folder: Path, old: str, new: str, name: str = "aml_core") -> Path:
    """A copy of the packaged profiles with one edit in one of them."""
    shutil.copytree(PACKAGED, folder, dirs_exist_ok=True)
    path = folder / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, "the edit must hit one place"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_the_released_profile_has_not_changed() -> None:
    profile = profiles.load("aml_core")

    assert profile.digest == AML_CORE
    assert profile.names == ("age", "sex", "wbc", "tpi")


def test_a_copy_has_the_same_digest_and_comments_do_not_count(tmp_path: Path) -> None:
    assert profiles.load(edited(tmp_path, "# Acute myeloid leukaemia:", "# AML:")).digest == AML_CORE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1.1.0", "version: 1.1.1"),
        ("centre: 2.8", "centre: 2.9"),
        ("hard: [0, 1000]", "hard: [0, 1001]"),
        ("      K/uL: 10*3/uL\n", ""),
        ("/uL: 0.001\n      /mm3", "/uL: 0.0010000000000000000001\n      /mm3"),
        ("window_days: [-30, 14]", "window_days: [-30, 15]"),
    ],
)
def test_every_edit_changes_the_digest(tmp_path: Path, old: str, new: str) -> None:
    assert profiles.load(edited(tmp_path, old, new)).digest != AML_CORE


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("6690-2, 26464-8", "6690-3, 26464-8", "variables.wbc.codes.loinc: 6690-3 has a wrong check digit"),
        (
            'snomed: ["91861009"]',
            'snomed: ["444360002"]',
            "diagnosis.codes.snomed: 444360002 has a wrong check",
        ),
        (
            "6690-2, 26464-8",
            "76689-9, 26464-8",
            "variables.wbc.codes.loinc: 76689-9 is already claimed by variables.sex",
        ),
        ("{haemfed: [", "{local: [", "variables.tpi.codes.local: the system is not listed"),
        ("hard: [0, 1000]", "hard: [1000, 0]", "variables.wbc.hard: must be ordered"),
        ("soft: [0.5, 300]", "soft: [0.5, 3000]", "variables.wbc.soft: must be ordered and inside"),
        ("clip: [0, 500]", "clip: [0, 5000]", "variables.wbc.scale.clip: must lie inside the hard range"),
        ("spread: 3\n", "spread: 3\n      transform: log1p\n", "variables.tpi.scale.clip: log1p needs values above -1"),
        ("spread: 1.35", "spread: 0", "variables.wbc.scale.spread: must be positive"),
        ("spread: 1.35", "spread: .nan", "spread: Value error, must be a number"),
        ("spread: 1.35", "spread: yes", "spread: Value error, must be a number"),
        (
            "10*9/L: 1\n",
            "10*9/L: 2\n",
            "variables.wbc.units: the canonical unit 10*9/L must be listed with factor 1",
        ),
        ("K/uL: 10*3/uL", "K/uL: 10*4/uL", "variables.wbc.unit_aliases.K/uL: 10*4/uL is not listed"),
        ("- name: tpi", "- name: wbc", "variables.wbc: defined twice"),
        ("- name: tpi", "- name: event", "variables.event: the name is reserved"),
        ("tier: B", "tier: D", "variables.tpi.tier"),
        ("tier: B", "teir: B", "variables.tpi.teir: Extra inputs are not permitted"),
        ("transform: log1p", "transform: log", "variables.wbc.scale.transform"),
        (
            "version: 1.1.0",
            "version: 1.1.0\nversion: 1.1.1",
            "line 6, column 1: the key 'version' appears twice",
        ),
        ("version: 1.1.0", "version: [1.1.0", "line"),
        ("version: 1.1.0", "version: 1.1.0\noutcome: {}", "outcome is already defined by its base"),
    ],
)
def test_the_linter_names_the_field(tmp_path: Path, old: str, new: str, finding: str) -> None:
    with pytest.raises(ProfileError) as error:
        profiles.load(edited(tmp_path, old, new))

    assert finding in str(error.value)
    assert "\n" not in str(error.value)


# One edit of a packaged file, the profile that is then loaded, and what the linter says.
EDITS = [
    ("myeloid", "feature: del5q", "feature: del5", "cyto_del5q.feature: del5 is no feature of"),
    ("myeloid", "feature: del7q", "feature: del5q", "cyto_del7q: asks the same as cyto_del5q"),
    ("myeloid", "hard: [0, 50]", "hard: [0, 10]", "cyto_abnormalities.scale.clip: must lie inside the hard range"),
    ("dysplasia", "hard: [0, 4]", "hard: [0, 5]", "cyto_ipssr_class.hard: ipssr_class is 0 to 4"),
    ("myeloid", "feature: plus8,", "feature: plus8, hard: [0, 2],", "cyto_plus8.hard: must be [0, 1]"),
    ("myeloid", "hgnc: 10768,", "hgnc: 99999,", "mut_sf3b1.gene.hgnc: 99999 is not listed in harmonize.genetics.genes"),
    ("myeloid", "hgnc: 10768,", "hgnc: HGNC,", "mut_sf3b1.gene.hgnc"),
    ("myeloid", "hgnc: 10768,", "hgnc: 25941,", "mut_sf3b1.gene.symbols: the first must be TET2"),
    ("myeloid", "symbols: [KMT2A, MLL]", "symbols: [MLL, KMT2A]", "mut_kmt2a.gene.symbols: the first must be KMT2A"),
    ("myeloid", "symbols: [CUX1]", "symbols: [CUX1, MLL]", "mut_cux1.gene.symbols: MLL is a symbol of HGNC:7132"),
    ("myeloid", "gene: *flt3, feature: itd", "gene: *cebpa, feature: itd", "itd is defined for HGNC:3765 alone"),
    ("myeloid", "gene: *flt3, feature: tkd", "gene: *flt3, feature: itd", "flt3_tkd: asks the same as mut_flt3_itd"),
    ("myeloid", "feature: bzip,", "feature: bzip, min_vaf: 1,", "mut_cebpa_bzip.min_vaf: must lie in [0, 1)"),
    ("myeloid", "genes: [7910,", "genes: [99999, 7910,", "panels.eln2022: HGNC:99999 is not listed"),
    ("myeloid", "genes: [7910,", "genes: [7910, 7910,", "panels.eln2022: HGNC:7910 appears twice"),
    ("myeloid", "clip: [-10, 10]", "clip: [10, -10]", "variables.slide.clip: must be ordered"),
    ("myeloid", "encoder: prov-gigapath 1 (slide encoder, Xu 2024)", 'encoder: " "', "slide.encoder: must name"),
    ("myeloid", "length: 768", "length: 768\n    columns: [a]", "variables.slide.columns: 1 names for a length of 768"),
    ("myeloid", "length: 768", "length: 2\n    columns: [a, a]", "variables.slide.columns: a name appears twice"),
    ("myeloid", "length: 768", "length: 0", "variables.slide.length"),
    ("dysplasia", 'snomed: ["91861009"]', 'snomed: ["91861008"]', "outcomes.transformation.codes.snomed: 91861008 has"),
    ("dysplasia", 'snomed: ["91861009"]', 'snomed: ["109995007"]', "109995007 is already claimed by diagnosis"),
    ("dysplasia", "C92.0, C92.3, C92.4", "C920, C92.3, C92.4", "outcomes.transformation.codes.icd10: C920 has a wrong"),
    ("dysplasia", "codes: {loinc: [15061-5]}", "codes: {loinc: [718-7]}", "718-7 is already claimed by variables.hb"),
    ("dysplasia", "[red-cell-transfusion-dependence]", "[]", "transfusion_dependent.codes: must not be empty"),
    ("dysplasia", "- name: transformation", "- name: hsct", "outcomes.hsct: hsct is already a name"),
    ("dysplasia", "- name: transformation", "- name: epo", "outcomes.epo: epo is already a name"),
    ("dysplasia", "- name: transformation", "- name: death__date", "two underscores are reserved"),
    ("dysplasia", "- name: epo", "- name: epo__m", "variables.epo__m: two underscores are reserved"),
    ("dysplasia", "- name: epo", "- name: karyotype", "variables.karyotype: the name is reserved"),
    ("dysplasia", "- name: epo", "- name: hsct_time", "outcomes.hsct: hsct_time is already a name"),
    ("haematology", "    hard: [0, 36525]", "    hard: [5, 5]", "outcomes.hsct.hard: must be ordered"),
    ("haematology", "      /nL: 1\n", "      /nL: 1\n      G/L: 1\n", "units.G/L: means something else in UCUM"),
    ("haematology", "10*9/L: 1\n", '10*9/L: 1\n      " x": 1\n', "blanks around a unit never match"),
    ("haematology", "{g/dl: g/dL, gm/dL", "{g/L: g/dL, gm/dL", "variables.hb.unit_aliases.g/L: is itself a unit"),
    ("haematology", "mmol/L: 1.6114", "mmol/L: -1.6114", "variables.hb.units.mmol/L: the factor must be positive"),
    ("haematology", "[-90, 90]", "[1, 90]", "variables.ferritin.select.window_days: must span day 0"),
    ("haematology", "orpha: http://www.orpha.net", "orpha: http://loinc.org", "http://loinc.org is listed under 2"),
    ("haematology", "source: by definition of the score (Oken 1982)", 'source: ""', "ecog.scale.source: must name"),
    ("mds", "mds-u: 8}", "mds-u: 9}", "variables.who2016.scale.clip: must hold the number of every category"),
    ("mds", "tier: C", "tier: B", "variables.who2016.tier: more than two categories without an order"),
    ("mds", "mds-sld: 1", "mds-sld: 2", "variables.who2016.values: needs at least two categories with different"),
    ("mds", "mds-sld: 1", "mds-sld: 200", "variables.who2016.values: numbers must lie in [-128, 127]"),
    ("mds", 'orpha: ["52688"]', 'orpha: ["ORPHA:52688"]', "diagnosis.codes.orpha: ORPHA:52688 has a wrong"),
    ("mds", "centre: 9.7, spread: 2,", "centre: 9.7, spread: -2,", "variables.hb.scale.spread: must be positive"),
    ("common", 'fhir: ["4.0.1", "4.3.0"]', 'fhir: ["5.0.0"]', "fhir: must list some of 4.0.1, 4.3.0"),
    ("dysplasia", "max_rate: 1}", "max_rate: 2}", "variables.ring_sideroblasts.missing.max_rate: must lie in [0, 1]"),
    ("mds", "centre: 1, spread: 1, clip: [1, 8]", "centre: 0, spread: 1, clip: [1, 8]", "who2016.scale.centre: must"),
    ("mds", "centre: 4.75, spread: 0.9", "centre: 47.5, spread: 0.9", "variables.plt.scale.centre: must lie"),
    ("common", "clip: [0, 1]", "clip: [1, 0]", "variables.sex.scale.clip: must be ordered"),
    ("common", "unused: [other, unknown]", "unused: [other, male]", "sex.unused: male is also listed under values"),
    ("common", "LA3-6: female", "LA3-6: femme", "variables.sex.answers.LA3-6: femme is not a category"),
    ("common", "top_code: 90", "top_code: 130", "variables.age.top_code: must lie inside the hard range"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "old", "new", "finding"), thinned((pytest.param(*each) for each in EDITS), 3), ids=range(len(EDITS))
)
def test_the_linter_names_the_field_of_every_kind(tmp_path: Path, name: str, old: str, new: str, finding: str) -> None:
    edited(tmp_path, old, new, name)

    with pytest.raises(ProfileError) as error:
        profiles.load(tmp_path / "mds.yaml")

    assert finding in str(error.value)
    assert "\n" not in str(error.value)


def test_an_outcome_needs_codes() -> None:
    profile = profiles.load("mds")
    outcome = profile.outcomes[0].model_copy(update={"codes": {"snomed": ()}})

    found = list(lint.findings(profile.model_copy(update={"outcomes": (outcome,)})))

    assert found == ["outcomes.hsct.codes: must not be empty"]


@pytest.mark.parametrize("name", ["common", "haematology", "myeloid", "dysplasia"])
def test_a_base_is_not_a_profile(name: str) -> None:
    with pytest.raises(ProfileError, match=f"profile {name}: has no version: a base that others extend"):
        profiles.load(name)


def extended(folder: Path, complete: str) -> Path:
    path = folder / "ours.yaml"
    path.write_text(f"profile: ours\nversion: 2.0.0\ntitle: Ours\nextends: mds\ncomplete: {{{complete}}}\n")
    return path


def test_what_a_base_left_open_is_completed(tmp_path: Path) -> None:
    checksum = "0" * 64

    profile = profiles.load(extended(tmp_path, f"slide: {{encoder_sha256: '{checksum}'}}"))

    assert (profile.profile, profile.version, profile.title) == ("ours", "2.0.0", "Ours")
    assert profile.features[0].encoder_sha256 == checksum
    assert profiles.load("mds").features[0].encoder_sha256 is None


@pytest.mark.parametrize(
    ("complete", "finding"),
    [
        ("hb: {unit: g/L}", "complete.hb.unit is already defined by its base"),
        ("hb: {tier: B}", "complete.hb.tier is already defined by its base"),
        ("haemoglobin: {tier: A}", "complete.haemoglobin: no base has a variable of this name"),
        ("hb: 7", "complete: must map variables to the fields"),
        ("slide: {encoder_sha: a}", "variables.slide.encoder_sha: Extra inputs are not permitted"),
        ("slide: {encoder_sha256: abc}", "variables.slide.encoder_sha256"),
    ],
)
def test_what_cannot_be_completed(tmp_path: Path, complete: str, finding: str) -> None:
    with pytest.raises(ProfileError) as error:
        profiles.load(extended(tmp_path, complete))

    assert finding in str(error.value)


HB = profiles.load("mds").variable("hb").model_dump(mode="json")


@given(st.sets(st.sampled_from(sorted(HB.keys() - {"name"}))))
def test_it_does_not_matter_which_fields_a_base_leaves_open(open_fields: set[str]) -> None:
    base = {"variables": [{key: value for key, value in HB.items() if key not in open_fields}]}
    own = {"complete": {"hb": {key: HB[key] for key in open_fields}}}

    assert profiles._merge(base, own, "split") == {"variables": [HB]}
    assert not open_fields & base["variables"][0].keys()  # the base itself is not changed


def test_complete_without_a_base(tmp_path: Path) -> None:
    path = tmp_path / "alone.yaml"
    path.write_text("profile: alone\nversion: 1.0.0\ncomplete: {hb: {tier: A}}\n")

    with pytest.raises(ProfileError, match="complete: Extra inputs are not permitted"):
        profiles.load(path)


def test_a_profile_that_extends_itself(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text("profile: loop\nextends: loop\n")

    with pytest.raises(ProfileError, match="extends itself, or more than 6 others in a row"):
        profiles.load(path)


@pytest.mark.parametrize("name", ["nope", "no/such.yaml"])
def test_a_missing_profile(name: str) -> None:
    with pytest.raises(ProfileError, match="not found; give a packaged name or the path"):
        profiles.load(name)


def _shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        items = list(value.items())
        chance.shuffle(items)
        return {key: _shuffled(each, chance) for key, each in items}
    return [_shuffled(each, chance) for each in value] if isinstance(value, list) else value


@settings(max_examples=examples(30), deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([profiles.load(name) for name in ("aml_core", "mds", "mm")]))
def test_the_order_of_keys_does_not_count_and_the_order_of_variables_does(
    chance: random.Random, profile: Profile
) -> None:
    same = Profile.model_validate(_shuffled(profile.model_dump(mode="json"), chance))

    assert same.canonical() == profile.canonical()
    assert same == profile

    first, *others = profile.variables
    assert profile.model_copy(update={"variables": (*others, first)}).canonical() != profile.canonical()


# Check digits: codes that HL7 and SNOMED publish, and miscopied ones that circulate in public code.
@pytest.mark.parametrize("code", ["718-7", "777-3", "6690-2", "26464-8", "804-5", "76689-9", "11150-0", "89247-1"])
def test_loinc(code: str) -> None:
    assert loinc_is_well_formed(code)
    body, check = code.split("-")
    assert not any(loinc_is_well_formed(f"{body}-{wrong}") for wrong in range(10) if wrong != int(check))


@pytest.mark.parametrize(
    "code",
    ["74455-8", "74456-6", "33944-8", "33945-5", "32730-5", "718", "718-", "0718-7", "x-1", "\u0667-1"],
)
def test_not_loinc(code: str) -> None:
    assert not loinc_is_well_formed(code)


@pytest.mark.parametrize("code", ["91861009", "109995007", "127225006", "109989006", "278844005", "363346000"])
def test_snomed(code: str) -> None:
    assert snomed_is_well_formed(code)
    for place in range(len(code) - 1):
        swapped = code[:place] + code[place + 1] + code[place] + code[place + 2 :]
        assert swapped == code or not snomed_is_well_formed(swapped)


@pytest.mark.parametrize("code", ["444360002", "91861008", "12", "", "9186100x"])
def test_not_snomed(code: str) -> None:
    assert not snomed_is_well_formed(code)


@pytest.mark.parametrize(
    ("system", "good", "bad"),
    [
        ("http://hl7.org/fhir/sid/icd-10", "C92.0", "C920"),
        ("http://hl7.org/fhir/sid/icd-10", "C93", "C92.0A"),
        ("http://hl7.org/fhir/sid/icd-10-cm", "C92.A0", "c92.a0"),
        ("http://fhir.de/CodeSystem/bfarm/icd-10-gm", "C92.00", "C92.A0"),
        ("http://www.orpha.net", "52688", "ORPHA:52688"),
        ("http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl", "C139007", "139007"),
        ("urn:haemfed:codesystem:variables", "who-2016-subtype", "who_2016"),
        ("urn:haemfed:codesystem:variables", "epo", "Epo"),
    ],
)
def test_codes_have_the_shape_of_their_system(system: str, good: str, bad: str) -> None:
    assert RULES[system](good)
    assert not RULES[system](bad)
    assert not RULES[system](f"{good}\n")


@given(st.from_regex(r"[1-9][0-9]{0,6}", fullmatch=True))
def test_one_check_digit_of_ten_is_right(body: str) -> None:
    assert sum(loinc_is_well_formed(f"{body}-{digit}") for digit in range(10)) == 1
    if len(body) > 5:
        assert sum(snomed_is_well_formed(f"{body}{digit}") for digit in range(10)) == 1


# One cell per microlitre is 10^6 a litre, 0.001 x 10^9 a litre.
@pytest.mark.parametrize(
    ("unit", "per_litre"),
    [
        ("10*9/L", 10**9), ("G/L", 10**9), ("x10E9/L", 10**9), ("/nL", 10**9), ("10*3/uL", 10**9),
        ("K/uL", 10**9), ("Tsd/µl", 10**9), ("10*3/mm3", 10**9), ("/uL", 10**6), ("/\u00b5L", 10**6),
        ("/\u03bcl", 10**6), ("cells/uL", 10**6), ("/mm3", 10**6), ("/cmm", 10**6),
        ("10*6/L", 10**6), ("/L", 1),
    ],
)  # fmt: skip
def test_unit_factors(unit: str, per_litre: int) -> None:
    wbc = profiles.load("aml_core").variable("wbc")
    assert isinstance(wbc, LabVariable)

    assert factor(f" {unit} ", wbc) * 10**9 == per_litre  # type: ignore[operator]  # None fails the comparison, too


@pytest.mark.parametrize("unit", ["g/L", "g/dL", "%", "", "1", "G/l /", "10*9", "bananas", "/UL"])
def test_other_units_are_not_converted(unit: str) -> None:
    wbc = profiles.load("aml_core").variable("wbc")
    assert isinstance(wbc, LabVariable)

    assert convert(wbc.scale.centre, unit, wbc) is None
