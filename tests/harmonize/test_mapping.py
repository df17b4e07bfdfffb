import pytest

from harmonize import mapping as mappings
from harmonize import sources
from harmonize.errors import MappingError
from tests.harmonize.patients import GERMAN, PROFILE, REDCAP


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[csv]", "[csv]\nseparator = ';'", "csv.separator: unknown key"),
        ("[patient]", "[patient]\nid = 'x'", "patient.id: unknown key"),
        (
            "[columns]",
            "[columns]\nhb = { column = 'hb', unit = 'g/dL' }",
            "columns.hb: no such variable in aml; known:",
        ),
        ("wbc = {", "wbcs = {", "columns.wbcs: no such variable in aml; did you mean 'wbc'?"),
        ('unit_column = "wbc_unit", ', "", "columns.wbc: give either unit or unit_column"),
        (
            'unit_column = "wbc_unit"',
            'unit_column = "u", unit = "/uL"',
            "columns.wbc: give either unit or unit_column",
        ),
        ('unit = "{score}"', 'unit = "points!"', "columns.tpi.unit: 'points!' is not a unit of tpi"),
        ('"dob"', '"dob", unit = "a"', "columns.birth_date: takes neither unit nor date_column"),
        (
            '"dob"',
            '"dob", date_format = "%d.%m.%y"',
            "columns.birth_date.date_format: may use %d, %m and %Y only",
        ),
        ('"dob"', '"dob", dateformat = "%Y"', "columns.birth_date.dateformat: unknown key"),
        (
            '9 = "unknown"',
            '9 = "unclear"',
            "columns.sex.codes: 'unclear' is not one of: female, male, other, unknown",
        ),
        (
            '"dob"',
            '"dob", codes = { x = "y" }',
            "columns.birth_date.codes: 'y' is not one of: (takes no codes)",
        ),
        (
            "[columns]",
            '[columns]\ndeceased = { column = "d" }',
            "columns.deceased.codes: say which cell texts",
        ),
        ('index_date = { column = "dx" }', "", "columns.index_date is missing"),
        ('"-99" = "unknown"', '"-99" = "dunno"', "csv.missing.-99: Input should be"),
        ('files = ["p.csv"]', 'files = ["../p.csv"]', "files: must lie beside or below the mapping file"),
        ('files = ["p.csv"]', 'files = ["/etc/p.csv"]', "files: must lie beside or below the mapping file"),
        ('files = ["p.csv"]', "files = []", "files: Tuple should have at least 1 item"),
        ('profile = "aml"', 'profile = "mds"', "profile is mds, the study uses aml"),
        ('format = "csv"', 'format = "xlsx"', "format: Input tag 'xlsx'"),
        ('format = "csv"\n', "", "format: Unable to extract tag"),
        ('format = "csv"', "format = csv", "not TOML: Invalid value (at line 2, column 10)"),
    ],
)
def test_a_wrong_mapping_names_the_key(old: str, new: str, message: str) -> None:
    assert REDCAP.count(old) == 1

    with pytest.raises(MappingError) as error:
        mappings.loads(REDCAP.replace(old, new), PROFILE)

    assert str(error.value).startswith("mapping.toml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_on_disk(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    with pytest.raises(MappingError, match=r"^mapping.toml: not found; write a mapping file"):
        mappings.load(folder / "mapping.toml", PROFILE)

    (folder / "mapping.toml").write_bytes(GERMAN.encode("cp1252"))
    with pytest.raises(MappingError, match=r"^mapping.toml: not UTF-8"):
        mappings.load(folder / "mapping.toml", PROFILE)

    (folder / "mapping.toml").write_text(GERMAN, encoding="utf-8")
    mapping = mappings.load(folder / "mapping.toml", PROFILE)
    with pytest.raises(MappingError, match=r"files: nothing matches 'p\.csv' beside the mapping file"):
        list(sources.read(folder, mapping, PROFILE))
