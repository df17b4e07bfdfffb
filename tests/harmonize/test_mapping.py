import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize import sources
from harmonize.errors import MappingError
from tests.harmonize.patients import GERMAN, PROFILE, REDCAP, SYSTEM

MDS = profiles.load("mds")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[csv]", "[csv]\nseparator = ';'", "csv.separator: unknown key; known: date_format, decimal, delimiter"),
        ("[patient]", "[patient]\nid = 'x'", "patient.id: unknown key; known: column, system"),
        (
            "[columns]",
            "[columns]\nhb = { column = 'hb', unit = 'g/dL' }",
            "columns.hb: no such variable in aml_core; known:",
        ),
        ("wbc = {", "wbcs = {", "columns.wbcs: no such variable in aml_core; did you mean 'wbc'?"),
        ('unit_column = "wbc_unit", ', "", "columns.wbc: give either unit or unit_column"),
        (
            'unit_column = "wbc_unit"',
            'unit_column = "u", unit = "/uL"',
            "columns.wbc: give either unit or unit_column",
        ),
        ('unit = "{score}"', 'unit = "points!"', "columns.tpi.unit: 'points!' is not a unit of tpi"),
        (
            '"dob"',
            '"dob", unit = "a"',
            "columns.birth_date.unit: not for a date in a wide file, which takes column, date_format",
        ),
        (
            '"dob"',
            '"dob", date_format = "%d.%m.%y"',
            "columns.birth_date.date_format: may use %d, %m, %b, %Y, %H, %M, %S and %z only",
        ),
        (
            '"dob"',
            '"dob", dateformat = "%Y"',
            "columns.birth_date.dateformat: unknown key; did you mean 'date_format'?",
        ),
        (
            '9 = "unknown"',
            '9 = "unclear"',
            "columns.sex.codes: 'unclear' is not one of: female, male, other, unknown",
        ),
        (
            '"dob"',
            '"dob", codes = { x = "y" }',
            "columns.birth_date.codes: not for a date in a wide file",
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
        ('profile = "aml_core"', 'profile = "mds"', "profile is mds, the study uses aml_core"),
        ('format = "csv"', 'format = "xlsx"', "format: Input tag 'xlsx'"),
        ('profile = "aml_core"\n', "", 'profile is missing; write profile = "aml_core"'),
        ("[patient]", "[redcap]\nevents = 'x'\n[patient]", "redcap.events: unknown key; did you mean 'event'?"),
        ('"seen"', '"seen", event = "a"', "columns.last_follow_up: event and instrument need [redcap]"),
        ('"seen"', '"seen", code = "a"', "columns.last_follow_up.code: not for a date in a wide file"),
        ('column = "seen"', 'date_format = "excel"', "columns.last_follow_up: give column"),
        ("[csv]", '[csv]\ndecimal = ","\nthousands = ","', "csv: decimal and thousands must differ"),
        ("[csv]", '[csv]\ndate_format = "%d.%m.%y"', "csv.date_format: may use"),
        ('"dx"', '"dx", date_format = "days-from-diagnosis"', "columns.index_date.date_format: day 0 cannot be"),
        ("[columns]", '[columns]\nvariant = { column = "x" }', 'give them a [[source]] with format = "variants"'),
        ("[columns]", '[columns]\nage = { column = "x", unit = "h" }', "columns.age.unit: 'h' is not one of: a, mo, d"),
        (
            "[columns]",
            '[columns]\nos = { column = "x", codes = { 1 = "true", 0 = "false" } }',
            "columns.os.event_column: is missing; say where death is told from censoring",
        ),
        (
            "[columns]",
            '[columns]\ndeceased = { column = "d", codes = { 1 = "true", "-99" = "false" } }',
            "columns.deceased.codes: '-99' already means missing; say it once",
        ),
        (
            "[columns]",
            '[columns]\ndeceased = { column = "d", codes = { 1 = "true", "" = "false" } }',
            "columns.deceased.codes: '' already means missing, as every blank cell does",
        ),
        ('format = "csv"', 'format = "csv"\nlayout = "long"', 'layout: "long" needs [long] with code and value'),
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


TWO = f"""
profile = "mds"
[[source]]
format = "csv"
files = ["cohort.csv"]
patient = {{ system = "{SYSTEM}", column = "id" }}
columns.index_date = {{ column = "dx" }}
columns.mut_tp53 = {{ column = "tp53", present = "1", absent = "0", tested_column = "ngs", tested = "done" }}
columns.hsct = {{ column = "hsct_day", event_column = "hsct", present = "1", absent = "0" }}
[[source]]
format = "variants"
files = ["maf.tsv"]
patient = {{ system = "{SYSTEM}", column = "id" }}
gene = "Hugo_Symbol"
vaf = "t_vaf"
vaf_unit = "fraction"
panel = "myeloid"
[[source]]
format = "features"
files = ["slides/*.parquet"]
patient = {{ system = "{SYSTEM}", column = "case" }}
variable = "slide"
column = "embedding"
"""


def test_several_sources() -> None:
    mapping = mappings.loads(TWO, MDS)

    assert mapping.formats == ("csv", "variants", "features")
    cohort, variants, features = mapping.sources
    assert isinstance(cohort, mappings.Csv)
    assert cohort.columns["mut_tp53"].truths == {"1": "true", "0": "false"}
    assert cohort.patient.key("7") == f"{SYSTEM}|7"
    assert isinstance(variants, mappings.Variants)
    assert (variants.gene, variants.vaf_unit, variants.panel, variants.everyone_tested) == (
        "Hugo_Symbol", "fraction", "myeloid", False,
    )  # fmt: skip
    assert isinstance(features, mappings.Features)


@pytest.mark.parametrize("form", ["bundle", "ndjson", "bulk"])
def test_the_flat_form_is_one_source(form: str) -> None:
    text = f'format = "{form}"\nprofile = "mds"\nfiles = ["x"]\n[patient]\nsystem = "{SYSTEM}"\n'

    assert mappings.loads(text, MDS).formats == (form,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('profile = "mds"', 'profile = "mds"\nfiles = ["x"]', "files: stands beside [[source]]"),
        ('profile = "mds"', 'profile = "mds"\nsource = 3', "not TOML"),
        ("t_vaf", 't_vaf"\nref = "x', "source 2: ref: unknown key"),
        ('vaf_unit = "fraction"\n', "", 'source 2: vaf_unit: goes with vaf; say whether it is "fraction"'),
        ('panel = "myeloid"', 'panel = "mieloid"', "source 2: panel: no such panel in mds; did you mean 'myeloid'?"),
        ('panel = "myeloid"', "everyone_tested = true", "source 2: everyone_tested: needs panel"),
        (
            'variable = "slide"',
            'variable = "slides"',
            "source 3: variable: no such feature vector in mds; did you mean",
        ),
        ('column = "embedding"\n', "", "source 3: column: slide: say which is the list column"),
        (
            'variable = "slide"',
            'variable = "slide"\nencoder = "other"',
            "source 3: encoder: encoder-mismatch: not what the profile has for slide",
        ),
        ('column = "case"', 'colum = "case"', "patient.colum: unknown key; did you mean 'column'?"),
        ('system = "urn:test:hospital", column = "case"', 'system = "b", column = "case"', "source 3: patient.system"),
        ('columns.index_date = { column = "dx" }', "", "columns.index_date is missing"),
        (', tested = "done"', "", "source 1: columns.mut_tp53.tested: say which cell texts"),
        ('event_column = "hsct", present = "1", ', 'event_column = "hsct", ', "columns.hsct.present: say which"),
        ("columns.hsct", "columns.slide", "source 1: columns.slide: feature vectors come in Parquet"),
        ("columns.hsct", "columns.hsct_", "source 1: columns.hsct_: no such variable in mds; did you mean 'hsct'?"),
    ],
)
def test_a_wrong_source_is_named(old: str, new: str, message: str) -> None:
    assert old in TWO

    with pytest.raises(MappingError) as error:
        mappings.loads(TWO.replace(old, new, 1), MDS)

    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_and_truths_need_no_quotes() -> None:
    text = TWO.replace('present = "1", absent = "0", tested', "present = 1, absent = [0, 2], tested")
    text = text.replace('present = "1", absent = "0"', "codes = { 1 = true, 0 = false }")

    source = mappings.loads(text, MDS).sources[0]

    assert isinstance(source, mappings.Csv)
    assert source.columns["mut_tp53"].truths == {"1": "true", "0": "false", "2": "false"}
    assert source.columns["hsct"].truths == {"1": "true", "0": "false"}


_VALUES = st.recursive(
    st.sampled_from(
        ["", "x", 'profile = "mds"', "1", "true", '"csv"', '"wide"', '"s"', '["a"]', "[]", "{}", "1.5", "2010-01-01"]
    ),
    lambda inner: st.dictionaries(st.sampled_from(["column", "system", "a", "format", "unit"]), inner, max_size=3).map(
        lambda made: "{ " + ", ".join(f"{key} = {value or 1}" for key, value in made.items()) + " }"
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from(TWO.splitlines()), _VALUES)
def test_no_mapping_ends_in_a_traceback(line: str, value: str) -> None:
    left = line.partition("=")[0]
    text = TWO.replace(line, f"{left}= {value}" if "=" in line else value, 1)

    message = ""
    try:
        mappings.loads(text, MDS)
    except MappingError as error:
        message = str(error)

    assert message.startswith("mapping.toml: ") or not message
    assert "\n" not in message


def test_double_brackets() -> None:
    with pytest.raises(MappingError, match=r"source: write \[\[source\]\], with two brackets"):
        mappings.loads('profile = "mds"\n[source]\nformat = "csv"', MDS)


RELATIVE = f"""
format = "csv"
profile = "mds"
files = ["x.csv"]
patient = {{ system = "{SYSTEM}", column = "id" }}
csv.date_format = "days-from-diagnosis"
columns.birth_date = {{ column = "birth" }}
columns.last_follow_up = {{ column = "seen", date_format = "months-from-diagnosis" }}
"""


def test_relative_dates_need_no_date_of_diagnosis() -> None:
    assert mappings.loads(RELATIVE, MDS).formats == ("csv",)

    with pytest.raises(
        MappingError, match=r"columns\.birth_date: a calendar date beside relative ones; map index_date"
    ):
        mappings.loads(RELATIVE.replace('"birth"', '"birth", date_format = "%Y"'), MDS)
    with pytest.raises(MappingError, match=r"columns\.index_date is missing"):
        mappings.loads(RELATIVE.replace("last_follow_up", "hsct"), MDS)


def test_relative_dates_beside_a_date_of_diagnosis_need_it_in_their_row() -> None:
    index = 'columns.index_date = { column = "dx", date_format = "%Y-%m-%d" }\n'

    assert mappings.loads(RELATIVE + index, MDS)
    for more in ("[redcap]\n", '[long]\ncode = "c"\nvalue = "v"\n'):
        text = RELATIVE + index + more
        if "long" in more:
            text = text.replace('"csv"', '"csv"\nlayout = "long"', 1).replace('column = "', 'code = "')
            text = text.replace('code = "id"', 'column = "id"')
        with pytest.raises(MappingError, match=r"date_format: [a-z-]+ needs index_date in the same row"):
            mappings.loads(text, MDS)


def test_a_proposal_is_a_skeleton_and_decides_nothing() -> None:
    header = [
        "PatNr",
        "Geschlecht",
        "Erstdiagnose",
        "days_to_death",
        "Haemoglobin",
        "platelet count",
        "TP53 mutated",
        "Note",
    ]
    samples = {
        "Geschlecht": ["m", "w", "m", "w", "m", "w", "Secret Name"],
        "Erstdiagnose": ["04.03.2012", "31.12.2013"],
        "days_to_death": ["NA", "120", "3000"],
        "Haemoglobin": ["9,5", "NA"],
    }

    text = mappings.propose(header, MDS, samples, "x.csv")

    parsed = tomllib.loads(text)
    assert parsed == {
        "format": "csv",
        "profile": "mds",
        "files": ["x.csv"],
        "patient": {"system": "urn:example:your-hospital", "column": "PatNr"},
        "csv": {},
        "columns": {},
    }
    assert '# sex = { column = "Geschlecht", codes = { "m" = "... one of: female' in text
    assert '# index_date = { column = "Erstdiagnose", date_format = "... %d.%m.%Y" }  # check' in text
    assert '# death_date = { column = "days_to_death", date_format = "... days-from-diagnosis" }' in text
    assert '# hb = { column = "Haemoglobin", unit = "... one of: g/dL' in text
    assert '# plt = { column = "platelet count"' in text
    assert '# mut_tp53 = { column = "TP53 mutated"' in text
    assert '# decimal = ","  # check' in text
    assert '#   "Note"' in text
    assert "Secret" not in text
    with pytest.raises(MappingError, match=r"columns\.index_date is missing"):
        mappings.loads(text, MDS)


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), max_size=8), st.lists(st.text(max_size=10), max_size=8))
def test_any_header_gives_toml(header: list[str], cells: list[str]) -> None:
    parsed = tomllib.loads(mappings.propose(header, PROFILE, dict.fromkeys(header, cells), "\x7f\n.csv"))

    assert parsed["columns"] == {}


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
