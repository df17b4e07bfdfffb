"""Bad input in delimited text: an issue with line and column, or an error with the way out, and never a
value.
"""

import io
from decimal import Decimal

import pytest

from harmonize.errors import HarmonizeError, MappingError, SourceError
from harmonize.events import State
from harmonize.mapping import Dialect
from harmonize.quality import Quality
from harmonize.sources.csv import parse_number
from harmonize.table import Table
from tests.harmonize.patients import REDCAP, read_csv

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
        ("wbc", "<0.5", None, "wbc", State.BELOW_LIMIT),
        ("wbc", ">= 300", None, "wbc", State.ABOVE_LIMIT),
    ],
)
def test_a_bad_value_is_not_used(column: str, text: str, code: str | None, variable: str, state: State) -> None:
    table, quality = read(GOOD.replace("1,", "2,", 1), with_cell(column, text))

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
            "stream: after line 0: not utf-8; declare the file's",
        ),
        (f'{HEADER}\n"1,2\n3'.encode(), SourceError, "stream: after line 3: broken quoting"),
        (
            f"{HEADER.replace('wbc,', 'wbcc,')}\n{GOOD}".encode(),
            MappingError,
            "columns.wbc.column names 'wbc'",
        ),
        (f"{HEADER.replace('tdi', 'dod')}\n{GOOD}".encode(), MappingError, "columns.tpi.column names 'tdi'"),
        (f"{HEADER},dx\n{GOOD},1".encode(), MappingError, "the header has 'dx' twice; rename one"),
        (f"{HEADER}\n{GOOD}".encode("utf-16"), SourceError, "not utf-8"),
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


def test_no_message_and_no_report_holds_a_value() -> None:
    secret = "8675309"
    rows = [with_cell(column, secret) for column in HEADER.split(",") if column != "record_id"]
    rows = [row.replace("1,", f"{secret}{number},", 1) for number, row in enumerate(rows)]

    _, quality = read(GOOD, *rows)

    assert len(quality.findings) > 5
    for rendered in (quality.render_html(), quality.operation_outcome_json().decode(), repr(quality)):
        assert secret not in rendered


def test_the_caller_keeps_the_stream() -> None:
    stream = io.BytesIO(f"{HEADER}\n{GOOD}".encode())
    from harmonize import mapping as mappings
    from harmonize.sources import csv as csv_source
    from tests.harmonize.patients import PROFILE

    loaded = mappings.loads(REDCAP, PROFILE)
    assert isinstance(loaded, mappings.Csv)
    assert list(csv_source.read(stream, loaded, PROFILE))
    assert not stream.closed
