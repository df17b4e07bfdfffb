"""REDCap exports: events, repeating instruments, check-boxes, raw codes or labels, missing-data codes."""

import datetime as dt
import re
from decimal import Decimal

import pytest

from harmonize.errors import MappingError
from harmonize.events import Event, Item, State
from tests.harmonize.layouts import facts, issues, people_of, read

MAPPING = """
format = "csv"
profile = "mds"
files = ["p.csv"]
[patient]
system = "urn:test:hospital"
column = "record_id"
[csv]
missing = { "-99" = "unknown", "-98" = "not-tested", "999" = "not-recorded" }
[redcap]
[columns]
sex = { column = "sex", codes = { 1 = "male", 2 = "female", Male = "male", Female = "female" }, event = "base_arm_1" }
index_date = { column = "dx", event = "base_arm_1" }
last_follow_up = { column = "seen" }
hb = { column = "hb", unit = "g/dL", date_column = "lab_date", instrument = "labs" }
plt = { column = "plt", unit = "10*9/L", missing = { "-99" = "unknown" }, event = "base_arm_1" }
[columns.mut_tp53]
column = "genes___1"
present = ["1", "Checked"]
absent = ["0", "Unchecked"]
tested_column = "ngs"
tested = ["1", "Yes"]
"""
HEADER = (
    "record_id,redcap_event_name,redcap_repeat_instrument,redcap_repeat_instance,redcap_data_access_group,"
    "sex,dx,seen,hb,lab_date,genes___1,ngs,plt"
)
ROWS = (
    "1,base_arm_1,,,north,1,2010-01-01,,,,0,1,999",
    "1,base_arm_1,labs,1,north,,,,9.5,2010-01-01,,,",
    "1,base_arm_1,labs,2,north,,,,-98,2010-01-08,,,",
    "1,visit_arm_1,,,north,,,2010-06-01,,,,,",
    "1,visit2_arm_1,,,north,,,2011-06-01,,,,,",
    "2,base_arm_1,,,north,Female,2012-01-01,2012-02-01,,,Checked,Yes,-99",
)
KEY = "urn:test:hospital|"


def of(*rows: str, mapping: str = MAPPING, header: str = HEADER) -> list[Item]:
    return read("\n".join([header, *rows]).encode(), mapping)


def test_rows_of_one_patient_are_one_patient() -> None:
    items = of(*ROWS)

    assert sorted(identifier for _, identifier, _ in people_of(items)) == ["1", "2"]
    day = dt.date(2010, 1, 1)
    assert {fact for fact in facts(items) if fact[0] == KEY + "1"} == {
        (KEY + "1", "sex", "male", None, State.VALUE),
        (KEY + "1", "index_date", day, None, State.VALUE),
        (KEY + "1", "hb", Decimal("9.5"), day, State.VALUE),
        (KEY + "1", "hb", None, dt.date(2010, 1, 8), State.NOT_TESTED),
        (KEY + "1", "mut_tp53", False, None, State.TESTED_NEGATIVE),
        (KEY + "1", "plt", Decimal(999), None, State.VALUE),  # 999 is a count of platelets here, not a missing code
        (KEY + "1", "last_follow_up", dt.date(2010, 6, 1), None, State.VALUE),
        (KEY + "1", "last_follow_up", dt.date(2011, 6, 1), None, State.VALUE),
    }
    assert {fact[1:] for fact in facts(items) if fact[0] == KEY + "2" and fact[1] in {"sex", "mut_tp53", "plt"}} == {
        ("sex", "female", None, State.VALUE),
        ("mut_tp53", True, None, State.VALUE),
        ("plt", None, None, State.UNKNOWN),
    }
    assert issues(items) == []


def test_an_empty_check_box_is_negative_only_where_the_test_was_done() -> None:
    def state(box: str, ngs: str) -> list[tuple[object, State]]:
        items = of(f"1,base_arm_1,,,,1,2010-01-01,,,,{box},{ngs},")
        return [(item.value, item.state) for item in items if isinstance(item, Event) and item.variable == "mut_tp53"]

    assert state("", "1") == state("0", "1") == [(False, State.TESTED_NEGATIVE)]
    assert state("", "0") == state("0", "0") == [(None, State.NOT_TESTED)]
    assert state("", "") == state("0", "") == []
    assert state("1", "") == state("Checked", "0") == [(True, State.VALUE)]


def test_several_boxes_of_one_category_conflict() -> None:
    boxes = 'sex = { checkboxes = { genes___1 = "male", ngs = "female" }, event = "base_arm_1" }'
    lines = MAPPING.partition("[columns.mut_tp53]")[0].splitlines()
    mapping = "\n".join(boxes if line.startswith("sex") else line for line in lines)

    items = of(
        "1,base_arm_1,,,,,2010-01-01,,,,1,0,", "2,base_arm_1,,,,,2010-01-01,,,,1,1,", "3,base_arm_1,,,,,,,,,0,0,",
        mapping=mapping,
    )  # fmt: skip

    assert [
        (item.patient, item.value, item.state) for item in items if isinstance(item, Event) and item.variable == "sex"
    ] == [
        (KEY + "1", "male", State.VALUE),
        (KEY + "2", None, State.INVALID),
    ]
    assert ("conflicting-values", "sex", 3, "genes___1") in issues(items)


def test_an_export_with_events_needs_redcap_in_the_mapping() -> None:
    plain = re.sub(r', (event|instrument) = "[a-z_0-9]+"', "", MAPPING.replace("[redcap]", ""))

    with pytest.raises(MappingError, match=r"a REDCap export with several rows a patient; add \[redcap\]"):
        of(*ROWS, mapping=plain)


def test_an_event_or_instrument_that_no_row_has_is_reported() -> None:
    items = of(*ROWS, mapping=MAPPING.replace('instrument = "labs"', 'instrument = "lab"'))

    assert issues(items) == [("code-unseen", "hb", 0, "")]


def test_a_column_of_one_event_is_not_read_from_another() -> None:
    items = of(ROWS[0], "1,visit_arm_1,,,north,2,2010-02-02,2010-06-01,,,,,50")

    assert {(fact[1], fact[2]) for fact in facts(items)} & {("sex", "female"), ("plt", Decimal(50))} == set()
    assert sum(fact[1] == "index_date" for fact in facts(items)) == 1


def test_the_rows_of_an_instrument_do_not_speak_for_others() -> None:
    # REDCap leaves what is not of the row's instrument blank, but check-boxes may be 0 there.
    items = of(ROWS[0], "1,base_arm_1,labs,1,north,,,,9.5,2010-01-01,1,1,")

    assert [item.value for item in items if isinstance(item, Event) and item.variable == "mut_tp53"] == [False]


def test_relative_dates_without_a_date_of_diagnosis() -> None:
    mapping = """
format = "csv"
profile = "mds"
files = ["p.csv"]
patient = { system = "urn:test:hospital", column = "record_id" }
redcap = { event = "base_arm_1" }
csv = { date_format = "months-from-diagnosis" }
columns.os = { column = "os", event_column = "dead", present = "1", absent = "0" }
"""
    items = of(
        "1,base_arm_1,,12,1", "1,base_arm_1,labs,99,1", "2,base_arm_1,,24.5,0",
        mapping=mapping, header="record_id,redcap_event_name,redcap_repeat_instrument,os,dead",
    )  # fmt: skip

    day0 = dt.date(2000, 1, 1)
    assert set(facts(items)) == {
        (KEY + "1", "index_date", day0, None, State.VALUE),
        (KEY + "1", "deceased", True, None, State.VALUE),
        (KEY + "1", "death_date", day0 + dt.timedelta(365), None, State.VALUE),
        (KEY + "2", "index_date", day0, None, State.VALUE),
        (KEY + "2", "deceased", False, None, State.VALUE),
        (KEY + "2", "last_follow_up", day0 + dt.timedelta(746), None, State.VALUE),
    }
