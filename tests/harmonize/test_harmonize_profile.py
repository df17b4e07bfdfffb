from pathlib import Path

import pytest
import yaml

from harmonize import profile as profiles
from harmonize.codes import loinc_is_well_formed, snomed_is_well_formed
from harmonize.errors import ProfileError
from harmonize.profile import LabVariable
from harmonize.units import convert, factor

PACKAGED = Path(profiles.__file__).parent / "profiles"
# Frozen: a released profile never changes in place. Edit it, raise its version, and only then this line.
AML = "6ada914e6634037577cbc8975366475e949ff767705d36c55c442932b6983b13"


def edited(folder: Path, old: str, new: str) -> Path:
    """A copy of the aml profile with one edit."""
    text = (PACKAGED / "aml.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1, "the edit must hit one place"
    path = folder / "aml.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_the_released_profile_has_not_changed() -> None:
    profile = profiles.load("aml")

    assert profile.digest == AML
    assert profile.names == ("age", "sex", "wbc", "tpi")


def test_a_copy_has_the_same_digest_and_comments_do_not_count(tmp_path: Path) -> None:
    assert profiles.load(edited(tmp_path, "# Acute myeloid leukaemia:", "# AML:")).digest == AML


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1.0.0", "version: 1.0.1"),
        ("centre: 2.8", "centre: 2.9"),
        ("hard: [0, 1000]", "hard: [0, 1001]"),
        ("      K/uL: 10*3/uL\n", ""),
        ("/uL: 0.001\n      /mm3", "/uL: 0.0010000000000000000001\n      /mm3"),
        ("window_days: [-30, 14]", "window_days: [-30, 15]"),
    ],
)
def test_every_edit_changes_the_digest(tmp_path: Path, old: str, new: str) -> None:
    assert profiles.load(edited(tmp_path, old, new)).digest != AML


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
        ("tier: B", "tier: C", "variables.3.lab.tier"),
        ("tier: B", "teir: B", "variables.3.lab.teir: Extra inputs are not permitted"),
        ("transform: log1p", "transform: log", "variables.2.lab.scale.transform"),
        (
            "version: 1.0.0",
            "version: 1.0.0\nversion: 1.0.1",
            "line 6, column 1: the key 'version' appears twice",
        ),
        ("version: 1.0.0", "version: [1.0.0", "line"),
        ("version: 1.0.0", "version: 1.0.0\noutcome: {}", "outcome is already defined by its base"),
    ],
)
def test_the_linter_names_the_field(tmp_path: Path, old: str, new: str, finding: str) -> None:
    with pytest.raises(ProfileError) as error:
        profiles.load(edited(tmp_path, old, new))

    assert finding in str(error.value)
    assert "\n" not in str(error.value)


def test_a_base_is_not_a_profile() -> None:
    with pytest.raises(ProfileError, match="profile common: version: Field required"):
        profiles.load("common")


@pytest.mark.parametrize("name", ["nope", "no/such.yaml"])
def test_a_missing_profile(name: str) -> None:
    with pytest.raises(ProfileError, match="not found; give a packaged name or the path"):
        profiles.load(name)


def test_profiles_know_no_private_constants() -> None:
    for path in PACKAGED.glob("*.yaml"):
        assert all("source" in variable["scale"] for variable in yaml.safe_load(path.read_text())["variables"])


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
    wbc = profiles.load("aml").variable("wbc")
    assert isinstance(wbc, LabVariable)

    assert factor(f" {unit} ", wbc) * 10**9 == per_litre  # type: ignore[operator]  # None fails the comparison, too


@pytest.mark.parametrize("unit", ["g/L", "g/dL", "%", "", "1", "G/l /", "10*9", "bananas", "/UL"])
def test_other_units_are_not_converted(unit: str) -> None:
    wbc = profiles.load("aml").variable("wbc")
    assert isinstance(wbc, LabVariable)

    assert convert(wbc.scale.centre, unit, wbc) is None
