"""Bad input in delimited text: an issue with line and column, or an error with the way out, and never a
value.
"""

import datetime as dt
import io
from decimal import Decimal
from pathlib import Path

import pytest

from harmonize import mapping as mappings
from harmonize import sources
from harmonize.errors import HarmonizeError, MappingError, SourceError
from harmonize.events import Event, Issue, PatientRecord, State
from harmonize.mapping import Dialect
from harmonize.reporting.quality import Quality
from harmonize.sources.numbers import parse_number
from harmonize.table import Table
from tests.harmonize import layouts
from tests.harmonize.patients import PROFILE, REDCAP, read_csv

HEADER = "record_id,dob,sex,dx,wbc,wbc_unit,wbc_date,tdi,dod,seen"
GOOD = "1,1950-01-01,1,2010-01-01,13.3,K/uL,2010-01-01,-1.5,,2012-01-01"


def read(*rows: str, header: str = HEADER, mapping: str = REDCAP, encoding: str = "utf-8") -> tuple[Table, Quality]:
    return read_csv("\n".join([header, *rows]).encode(encoding), mapping)


def with_cell(column: str, text: str) -> str:
    cells = GOOD.split(",")
    cells[HEADER.split(",").index(column)] = text
    return ",".join(cells)


@pytest.mark.parametrize(
    ("column", "text", "code", "variable", "state"),
    [
        ("wbc", '"12,5"', "number-malformed", "wbc", State.INVALID),
        ("wbc", "NaN", "number-malformed", "wbc", State.INVALID),
        ("wbc", "inf", "number-malformed", "wbc", State.INVALID),
        ("wbc", "=1+1", "number-malformed", "wbc", State.INVALID),
        ("wbc", "١٢", "number-malformed", "wbc", State.INVALID),
        ("wbc", "-1", "range-hard", "wbc", State.INVALID),
        ("wbc", "1000.5", "range-hard", "wbc", State.INVALID),
        ("wbc", "0", "range-soft", "wbc", State.VALUE),
        ("wbc_unit", "g/dL", "unit-unknown", "wbc", State.INVALID),
        ("wbc_unit", "", "unit-missing", "wbc", State.INVALID),
        ("wbc_date", "", "time-missing", "wbc", State.INVALID),
        ("wbc_date", "01.01.2010", "date-malformed", "wbc", State.INVALID),
        ("wbc_date", "2009-01-01", "outside-window", "wbc", State.NOT_RECORDED),
        ("sex", "7", "code-unknown", "sex", State.INVALID),
        ("sex", "9", None, "sex", State.UNKNOWN),
        ("sex", "3", None, "sex", State.OTHER),
        ("dob", "2011-01-01", "birth-after-diagnosis", "age", State.INVALID),
        ("dob", "1850-01-01", "range-hard", "age", State.INVALID),
        ("dob", "2000-01-01", "range-soft", "age", State.VALUE),
        ("dob", "2010-02-30", "date-malformed", "age", State.INVALID),
        ("dob", "-99", None, "age", State.UNKNOWN),
        ("dob", "", None, "age", State.NOT_RECORDED),
        ("wbc", "1-Mar", "excel-date-damage", "wbc", State.INVALID),
        ("wbc", "03. Jan", "excel-date-damage", "wbc", State.INVALID),
        ("sex", "2-Sep", "excel-date-damage", "sex", State.INVALID),
        ("wbc_date", "40179", "excel-serial-date", "wbc", State.INVALID),
        ("dob", "18264", "excel-serial-date", "birth_date", None),
        ("wbc", "<0.5", None, "wbc", State.BELOW_LIMIT),
        ("wbc", "≤0.5", None, "wbc", State.BELOW_LIMIT),
        ("wbc", ">= 300", None, "wbc", State.ABOVE_LIMIT),
    ],
)
def test_a_bad_value_is_not_used(column: str, text: str, code: str | None, variable: str, state: State | None) -> None:
    table, quality = read(GOOD.replace("1,", "2,", 1), with_cell(column, text))

    if state is not None:
        assert sorted(table.states(variable)) == sorted([State.VALUE, state])
    if code is None:
        assert not quality.findings
    else:
        (finding,) = quality.findings
        assert (finding.code, finding.count, finding.places) == (code, 1, ("stream:3",))


@pytest.mark.parametrize(
    ("column", "text", "code"),
    [
        ("dx", "", "index-diagnosis-missing"),
        ("dx", "-99", "index-diagnosis-missing"),
        ("dod", "2009-12-31", "death-before-diagnosis"),
        ("seen", "2009-12-31", "follow-up-before-diagnosis"),
        ("seen", "", "follow-up-missing"),
        ("dod", "2100-01-01", None),
        ("dod", "2200-01-01", "outcome-implausible"),
    ],
)
def test_a_patient_without_an_outcome_is_left_out(column: str, text: str, code: str | None) -> None:
    table, quality = read(GOOD.replace("1,", "2,", 1), with_cell(column, text))

    assert len(table) == (2 if code is None else 1)
    assert quality.flow.left_out == ({} if code is None else {code: 1})
    assert quality.flow.seen == 2


def test_seen_after_death() -> None:
    table, quality = read(with_cell("dod", "2011-01-01"))

    assert table.arrow["time"].to_pylist() == [365]
    assert [finding.code for finding in quality.findings] == ["follow-up-after-death"]


def test_alive_with_a_date_of_death() -> None:
    mapping = REDCAP + 'deceased = { column = "dead", codes = { 1 = "true", 0 = "false" } }\n'

    _, quality = read(f"{with_cell('dod', '2011-01-01')},0", header=f"{HEADER},dead", mapping=mapping)
    assert quality.flow.left_out == {"vital-status-contradiction": 1}

    _, quality = read(f"{GOOD},1", header=f"{HEADER},dead", mapping=mapping)
    assert quality.flow.left_out == {"death-date-missing": 1}


def test_the_same_row_twice_counts_once() -> None:
    table, quality = read(GOOD, GOOD)

    assert len(table) == 1
    assert [(finding.code, finding.count) for finding in quality.findings] == [("patient-duplicate", 1)]


def test_two_rows_that_disagree_are_left_out() -> None:
    table, quality = read(GOOD, with_cell("wbc", "14"), GOOD.replace("1,", "2,", 1))

    assert len(table) == 1
    assert quality.flow.left_out == {"patient-contradiction": 1}
    assert quality.flow.seen == 2


def test_a_row_without_identifier() -> None:
    table, quality = read(GOOD, with_cell("record_id", " "))

    assert len(table) == 1
    assert quality.count("identifier-missing") == 1


def test_a_byte_order_mark_is_not_part_of_the_first_name() -> None:
    table, quality = read(GOOD, encoding="utf-8-sig")

    assert len(table) == 1
    assert [finding.code for finding in quality.findings] == ["byte-order-mark"]


def test_partial_dates() -> None:
    mapping = REDCAP.replace('"dx"', '"dx", date_format = "%Y-%m"')
    table, quality = read(with_cell("dx", "2010-01"), mapping=mapping)

    assert table.arrow["time"].to_pylist() == [365 + 365 - 14]
    assert [(finding.code, finding.variable) for finding in quality.findings] == [("date-partial", "index_date")]

    mapping = REDCAP.replace('"dx"', '"dx", date_format = "%Y"')
    _, quality = read(with_cell("dx", "2010"), mapping=mapping)
    assert quality.flow.left_out == {"index-diagnosis-missing": 1}
    assert quality.count("date-coarse", "index_date") == 1


def test_one_ragged_row_in_a_hundred_is_an_issue_two_are_too_many() -> None:
    rows = [GOOD.replace("1,", f"{number},", 1) for number in range(99)]

    table, quality = read(*rows, "1,2,3")
    assert len(table) == 99
    assert [(finding.code, finding.places) for finding in quality.findings] == [("row-ragged", ("stream:101",))]

    with pytest.raises(SourceError, match=r"^stream: 2 of 100 cannot be read, first at row 100; at most 1 %"):
        read(*rows[:98], "1,2,3", "1,2,3")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", SourceError, "stream: is empty; there is no header"),
        (
            f"{HEADER}\nM\xfcller".encode("latin-1"),
            SourceError,
            'stream: after line 0: not utf-8; declare the file\'s encoding under [csv] (encoding = "cp1252" would read',
        ),
        (
            f"{HEADER}\nM\xfcller".encode("cp850"),
            SourceError,
            'stream: after line 0: not utf-8; declare the file\'s encoding under [csv] (encoding = "cp850" would read',
        ),
        (f'{HEADER}\n"1,2\n3'.encode(), SourceError, "stream: after line 3: broken quoting"),
        (
            f"{HEADER.replace('wbc,', 'wbcc,')}\n{GOOD}".encode(),
            MappingError,
            "columns.wbc.column names 'wbc'",
        ),
        (f"{HEADER.replace('tdi', 'dod')}\n{GOOD}".encode(), MappingError, "columns.tpi.column names 'tdi'"),
        (f"{HEADER},dx\n{GOOD},1".encode(), MappingError, "the header has 'dx' twice; rename one"),
        (f"{HEADER}\n{GOOD}".encode("utf-16"), SourceError, 'not utf-8 but UTF-16; declare encoding = "utf-16"'),
        (f"{HEADER},note,note\n{GOOD},a,b".encode(), MappingError, "columns 11 and 12 have the same name; rename"),
        (b"\0" * 9, MappingError, "not in the header; the first row must hold the column names"),
        (GOOD.encode(), MappingError, "not in the header; the first row must hold the column names"),
    ],
)
def test_an_unreadable_file_is_refused(data: bytes, error: type[HarmonizeError], message: str) -> None:
    with pytest.raises(error) as caught:
        read_csv(data, REDCAP)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "1950" not in str(caught.value)


def test_a_near_miss_of_a_column_is_named() -> None:
    with pytest.raises(MappingError, match=r"did you mean 'wbc_units'\?$"):
        read(GOOD, header=HEADER.replace("wbc_unit", "wbc_units"))


def test_an_unknown_encoding() -> None:
    with pytest.raises(MappingError, match=r"csv\.encoding: Python knows no encoding 'cp12525'"):
        read(GOOD, mapping=REDCAP.replace("[csv]", '[csv]\nencoding = "cp12525"'))
    with pytest.raises(MappingError, match=r"did you mean 'latin'\?"):
        read(GOOD, mapping=REDCAP.replace("[csv]", '[csv]\nencoding = "latin-l"'))


@pytest.mark.parametrize("written", ["utf-8", "utf-8-sig"])
def test_utf_8_under_another_declaration_is_named(written: str) -> None:
    mapping = REDCAP.replace("[csv]", '[csv]\nencoding = "cp1252"')

    with pytest.raises(SourceError, match='stream: not cp1252 but UTF-8; declare encoding = "utf-8"'):
        read(GOOD.replace("1,", "Ä,", 1), mapping=mapping, encoding=written)
    table, _ = read(GOOD.replace("1,", "Ä,", 1), mapping=mapping, encoding="cp1252")
    assert len(table) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end: str) -> None:
    table, quality = read_csv(end.join([HEADER, GOOD, with_cell("wbc", "x").replace("1,", "2,", 1)]).encode(), REDCAP)

    assert len(table) == 2
    assert [finding.places for finding in quality.findings] == [("stream:3",)]


def test_a_line_without_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from harmonize.sources import decoding

    monkeypatch.setattr(decoding, "MAX_LINE", 1000)
    with pytest.raises(SourceError, match="after line 2: a line over"):
        read(GOOD, "x" * 2000)


def test_identifiers_that_a_spreadsheet_rounded_are_not_used() -> None:
    table, quality = read(GOOD, GOOD.replace("1,", '"1,23E+12",', 1), GOOD.replace("1,", "1.23E+12,", 1))

    assert len(table) == 1
    assert [(finding.code, finding.count) for finding in quality.findings] == [("excel-identifier", 2)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.234,5", "1234.5"),
        ("1234,5", "1234.5"),
        ("1.234.567", "1234567"),
        ("-0,5", "-0.5"),
        ("5e3", "5000"),
    ],
)
def test_german_numbers(text: str, value: str) -> None:
    assert parse_number(text, Dialect(decimal=",", thousands=".")) == (Decimal(value), State.VALUE)


@pytest.mark.parametrize(
    "text", ["1.23", "1.2345", "1,234,5", "1.234.56", ".5", ",5", "5,", "1 2", "", "-", "0x1", "1e999"]
)
def test_not_german_numbers(text: str) -> None:
    assert parse_number(text, Dialect(decimal=",", thousands=".")) is None


MDS_HEAD = """
format = "csv"
profile = "mds"
files = ["p.csv"]
[patient]
system = "s"
column = "id"
[csv]
missing = { NA = "not-recorded" }
true = ["1", "yes"]
false = ["0", "no"]
[columns]
"""


def mds(columns: str, *rows: str, head: str = MDS_HEAD) -> tuple[list[tuple[object, ...]], list[str]]:
    """Events without the patient, and codes of issues."""
    items = layouts.read("\n".join(rows).encode(), head + columns)
    found = [(str(e.variable), e.value, e.unit, e.time, e.state) for e in items if isinstance(e, Event)]
    return found, [item.code for item in items if isinstance(item, Issue)]


def test_distances_from_a_date_of_diagnosis_in_the_same_row() -> None:
    events, found = mds(
        """
index_date = { column = "dx" }
birth_date = { column = "birth", date_format = "days-from-diagnosis" }
last_follow_up = { column = "seen", date_format = "years-from-diagnosis" }
hb = { column = "hb", unit = "g/dL", date_column = "hb_day", date_format = "days-from-diagnosis" }
""",
        "id,birth,seen,hb,hb_day,dx",
        "1,-20000,2,9.5,-7,2010-01-31",
        "2,-20000,2,9.5,-7,",
        "3,x,>2,9.5,999999999,2010-01-31",
    )

    day = dt.date(2010, 1, 31)
    assert events[:4] == [
        ("index_date", day, None, None, State.VALUE),
        ("birth_date", day - dt.timedelta(20_000), None, None, State.VALUE),
        ("last_follow_up", day + dt.timedelta(730), None, None, State.VALUE),  # 2 * 365.25, half to even
        ("hb", Decimal("9.5"), "g/dL", day - dt.timedelta(7), State.VALUE),
    ]
    assert {event[4] for event in events[4:] if event[0] != "index_date"} == {State.INVALID}
    assert found == ["date-malformed"] * 3


def test_survival_as_a_pair() -> None:
    events, found = mds(
        """os = { column = "months", event_column = "dead", date_format = "months-from-diagnosis" }""",
        "id,months,dead",
        "1,12,yes",
        "2,0.5,no",
        "3,12,NA",
        "4,NA,yes",
        "5,12,perhaps",
    )

    day0 = dt.date(2000, 1, 1)
    assert [event[:2] for event in events if event[0] != "index_date"] == [
        ("deceased", True),
        ("death_date", day0 + dt.timedelta(365)),
        ("deceased", False),
        ("last_follow_up", day0 + dt.timedelta(15)),
        ("deceased", True),
        ("os", None),
    ]
    assert found == ["code-unknown"]


def test_the_kinds_of_genetic_columns() -> None:
    events, found = mds(
        """
index_date = { column = "dx" }
cyto_del5q = { column = "del5q" }
cyto_ipssr_class = { column = "ipssr", codes = { Good = "1" } }
mut_sf3b1 = { column = "sf3b1", unit = "percent", tested_column = "ngs", tested = "done" }
mut_tp53_vaf = { column = "tp53", unit = "fraction" }
genes_tested = { column = "panel", codes = { v1 = "myeloid" } }
hsct = { column = "hsct_day", event_column = "hsct" }
age = { column = "age", unit = "mo" }
""",
        "id,dx,del5q,ipssr,sf3b1,ngs,tp53,panel,hsct,hsct_day,age",
        "1,2010-01-01,yes,Good,45,done,0.125,v1,yes,2010-05-01,720",
        "2,2010-01-01,no,3,,done,0,v1,no,,",
        "3,2010-01-01,1-Dec,Bad,<2,failed,12%,v2,yes,,1-Mar",
    )

    panel = frozenset(layouts.PROFILE.panels["myeloid"].genes)
    values = [(name, value, state) for name, value, _, _, state in events if name != "index_date"]
    assert values[:8] == [
        ("cyto_del5q", True, State.VALUE),
        ("cyto_ipssr_class", Decimal(1), State.VALUE),
        ("mut_sf3b1", Decimal("0.45"), State.VALUE),
        ("mut_tp53_vaf", Decimal("0.125"), State.VALUE),
        ("genes_tested", panel, State.VALUE),
        ("hsct", dt.date(2010, 5, 1), State.VALUE),
        ("age", Decimal(60), State.VALUE),
        ("cyto_del5q", False, State.TESTED_NEGATIVE),
    ]
    assert values[8:13] == [
        ("cyto_ipssr_class", Decimal(3), State.VALUE),
        ("mut_sf3b1", False, State.TESTED_NEGATIVE),
        ("mut_tp53_vaf", False, State.TESTED_NEGATIVE),
        ("genes_tested", panel, State.VALUE),
        ("hsct", False, State.VALUE),
    ]
    assert {(name, state) for name, _, state in values[13:]} == {
        ("cyto_del5q", State.INVALID),
        ("cyto_ipssr_class", State.INVALID),
        ("mut_sf3b1", State.NOT_TESTED),
        ("mut_tp53_vaf", State.INVALID),
        ("genes_tested", State.INVALID),
        ("hsct", State.INVALID),
        ("age", State.INVALID),
    }
    assert sorted(found) == sorted(
        ["excel-date-damage", "code-unknown", "number-malformed", "code-unknown", "time-missing", "excel-date-damage"]
    )


def test_every_no_is_judged_by_the_test_in_its_own_row() -> None:
    events, _ = mds(
        """
index_date = { column = "dx" }
mut_tp53 = { column = "tp53", tested_column = "ngs", tested = "done" }
""",
        "id,dx,tp53,ngs",
        *(f"{number},2010-01-01,no,{ngs}" for number, ngs in enumerate(("done", "failed", "", "done"))),
    )

    assert [event[4] for event in events if event[0] == "mut_tp53"] == [
        State.TESTED_NEGATIVE,
        State.NOT_TESTED,
        State.TESTED_NEGATIVE,
    ]


def test_a_file_without_a_date_of_diagnosis_adds_facts_only(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text("id,dx,seen\n1,2010-01-01,2012-01-01\n", encoding="utf-8")
    (tmp_path / "labs.csv").write_text("id,what,value\n1,Hb,9.5\n2,Hb,9\n1,SEPT2,1\n1,2-Sep,1\n", encoding="utf-8")
    text = """
profile = "mds"
[[source]]
format = "csv"
files = ["cohort.csv"]
patient = { system = "s", column = "id" }
columns = { index_date = { column = "dx" }, last_follow_up = { column = "seen" } }
[[source]]
format = "csv"
layout = "long"
files = ["labs.csv"]
patient = { system = "s", column = "id" }
long = { code = "what", value = "value" }
columns = { hb = { code = ["Hb", "Hgb"], unit = "g/dL" } }
"""

    items = list(sources.read(tmp_path, mappings.loads(text, layouts.PROFILE), layouts.PROFILE))

    assert [item.identifier for item in items if isinstance(item, PatientRecord)] == ["1"]
    assert [(e.patient, e.value) for e in items if isinstance(e, Event) and e.variable == "hb"] == [
        ("s|1", Decimal("9.5")),
        ("s|2", Decimal(9)),
    ]
    assert [(item.code, item.variable) for item in items if isinstance(item, Issue)] == [
        ("excel-date-damage", ""),
        ("code-unseen", "hb"),
    ]


def test_no_message_and_no_report_holds_a_value() -> None:
    secret = "8675309"
    rows = [with_cell(column, secret) for column in HEADER.split(",") if column != "record_id"]
    rows = [row.replace("1,", f"{secret}{number},", 1) for number, row in enumerate(rows)]

    _, quality = read(GOOD, *rows)

    assert len(quality.findings) > 5
    for rendered in (quality.operation_outcome_json().decode(), repr(quality)):
        assert secret not in rendered


def test_the_caller_keeps_the_stream() -> None:
    stream = io.BytesIO(f"{HEADER}\n{GOOD}".encode())
    from harmonize.sources import csv as csv_source

    loaded = mappings.loads(REDCAP, PROFILE).sources[0]
    assert isinstance(loaded, mappings.Csv)
    assert list(csv_source.read(stream, loaded, PROFILE))
    assert not stream.closed
