"""Generated facts, and the ways in which a CSV file may hold them: wide, long, REDCap; units, signs, encodings."""

import csv
import datetime as dt
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize.events import Event, Issue, Item, PatientRecord
from harmonize.sources import csv as csv_source
from harmonize.units import convert
from harmonize.variables import LabVariable

PROFILE = profiles.load("mds")
EXCEL = dt.date(1899, 12, 30)


@dataclass(frozen=True)
class Subject:
    """What is known of one patient; None = nothing, a text = a reason of absence."""

    identifier: str
    sex: str | None
    birth: dt.date | None
    index: dt.date | None
    hb: Decimal | str | None  # g/dL
    plt: Decimal | str | None  # 10*9/L
    lab_day: dt.date
    del5q: bool | None
    tp53: bool | None
    karyotype: str | None
    hsct: dt.date | bool | None  # False: has not happened
    death: dt.date | None
    seen: dt.date


@dataclass(frozen=True)
class Style:
    """How a hospital writes."""

    encoding: str
    delimiter: str
    decimal: str
    thousands: str | None
    dates: str
    line_end: str
    hb_unit: str
    plt_unit: str


@st.composite
def subjects(draw: st.DrawFn) -> list[Subject]:
    names = draw(st.lists(st.text("abÄß019", min_size=1, max_size=6), min_size=1, max_size=4, unique=True))
    return [draw(_subject(name)) for name in names]


@st.composite
def _subject(draw: st.DrawFn, name: str) -> Subject:
    days = st.dates(dt.date(1930, 1, 1), dt.date(2025, 12, 31))
    numbers = st.integers(0, 5_000_000).map(lambda thousandths: Decimal(thousandths) / 1000)
    measured = numbers | st.sampled_from(["unknown", "not-tested", None])
    truth = st.sampled_from([True, False, None])
    return Subject(
        identifier=name,
        sex=draw(st.sampled_from(["female", "male", "other", None])),
        birth=draw(st.none() | days),
        index=draw(st.none() | days),
        hb=draw(measured),
        plt=draw(measured),
        lab_day=draw(days),
        del5q=draw(truth),
        tp53=draw(truth),
        karyotype=draw(st.sampled_from(["46,XX[20]", "46,XY,del(5)(q13q33)[20]", None])),
        hsct=draw(st.none() | st.just(value=False) | days),
        death=draw(st.none() | days),
        seen=draw(days),
    )


@st.composite
def styles(draw: st.DrawFn) -> Style:
    decimal, thousands = draw(
        st.sampled_from([(".", None), (".", ","), (",", None), (",", "."), (",", " "), (".", "'")])
    )
    return Style(
        encoding=draw(st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16", "cp850"])),
        delimiter=draw(st.sampled_from([",", ";", "\t", "|"])),
        decimal=decimal,
        thousands=thousands,
        dates=draw(st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d-%b-%Y", "%Y%m%d", "excel"])),
        line_end=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        hb_unit=draw(st.sampled_from(["g/dL", "g/L"])),
        plt_unit=draw(st.sampled_from(["10*9/L", "/uL", "K/µL"])),
    )


def _number(value: Decimal, style: Style) -> str:
    text = format(value, "," if style.thousands else "f")
    return text.translate({ord(","): style.thousands or "", ord("."): style.decimal})


class _Writer:
    """Cells of one style."""

    def __init__(self, style: Style) -> None:
        self.style = style

    def day(self, day: dt.date | None) -> str:
        if day is None:
            return ""
        if self.style.dates == "excel":
            return str((day - EXCEL).days)
        return day.strftime(self.style.dates)

    def measured(self, value: Decimal | str | None, factor: Decimal) -> str:
        if isinstance(value, Decimal):
            return _number(value * factor, self.style)
        return {"unknown": "k.A.", "not-tested": "n.d.", None: ""}[value]

    def facts(self, subject: Subject) -> dict[str, str]:
        """Column -> cell text."""
        style = self.style
        truth = {True: "ja", False: "nein", None: ""}
        sex = {"female": "w", "male": "m", "other": "d", None: ""}
        return {
            "Geschlecht": sex[subject.sex],
            "Geburt": self.day(subject.birth),
            "Diagnose": self.day(subject.index),
            "Hämoglobin": self.measured(subject.hb, Decimal(10) if style.hb_unit == "g/L" else Decimal(1)),
            "Thrombozyten": self.measured(subject.plt, Decimal(1000) if style.plt_unit == "/uL" else Decimal(1)),
            "del5q": truth[subject.del5q],
            "TP53": truth[subject.tp53],
            "Karyotyp": subject.karyotype or "",
            "Transplantation": "nie" if subject.hsct is False else self.day(subject.hsct or None),
            "Tod": self.day(subject.death),
            "Kontakt": self.day(subject.seen),
        }

    def encoded(self, rows: Sequence[Sequence[str]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self.style.delimiter, lineterminator=self.style.line_end).writerows(rows)
        return text.getvalue().encode(self.style.encoding)

    def head(self, extra: str = "") -> str:
        style = self.style
        thousands = f"thousands = {_toml(style.thousands)}" if style.thousands else ""
        return f"""
format = "csv"
profile = "mds"
files = ["p.csv"]
{extra}
[patient]
system = "urn:test:hospital"
column = "Nr"
[csv]
encoding = {_toml(style.encoding)}
delimiter = {_toml(style.delimiter)}
decimal = {_toml(style.decimal)}
{thousands}
date_format = {_toml(style.dates)}
missing = {{ "k.A." = "unknown", "n.d." = "not-tested" }}
true = "ja"
false = "nein"
"""


def _toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace("\t", "\\t") + '"'


_CODES = 'codes = { w = "female", m = "male", d = "other" }'
_LABS = ("Hämoglobin", "Thrombozyten")


def wide(people: Sequence[Subject], style: Style) -> list[Item]:
    writer = _Writer(style)
    columns = list(writer.facts(people[0]))
    rows = [["Nr", *columns, "Labor"]]
    rows += [[each.identifier, *writer.facts(each).values(), writer.day(each.lab_day)] for each in people]
    mapping = (
        writer.head()
        + f"""
[columns]
sex = {{ column = "Geschlecht", {_CODES} }}
birth_date = {{ column = "Geburt" }}
index_date = {{ column = "Diagnose" }}
hb = {{ column = "Hämoglobin", unit = "{style.hb_unit}", date_column = "Labor" }}
plt = {{ column = "Thrombozyten", unit = "{style.plt_unit}", date_column = "Labor" }}
cyto_del5q = {{ column = "del5q" }}
mut_tp53 = {{ column = "TP53" }}
karyotype = {{ column = "Karyotyp" }}
hsct = {{ column = "Transplantation", absent = "nie" }}
death_date = {{ column = "Tod" }}
last_follow_up = {{ column = "Kontakt" }}
"""
    )
    return read(writer.encoded(rows), mapping)


def long(people: Sequence[Subject], style: Style) -> list[Item]:
    writer = _Writer(style)
    units = {"Hämoglobin": style.hb_unit, "Thrombozyten": style.plt_unit}
    rows = [["Nr", "Was", "Wert", "Einheit", "Wann"]]
    for each in people:
        day = writer.day(each.lab_day)
        rows += [
            [each.identifier, what, text, units.get(what, ""), day if what in _LABS else ""]
            for what, text in writer.facts(each).items()
        ]
    mapping = (
        writer.head('layout = "long"')
        + f"""
[long]
code = "Was"
value = "Wert"
unit = "Einheit"
date = "Wann"
[columns]
sex = {{ code = "Geschlecht", {_CODES} }}
birth_date = {{ code = "Geburt" }}
index_date = {{ code = "Diagnose" }}
hb = {{ code = ["Hb", "Hämoglobin"] }}
plt = {{ code = "Thrombozyten" }}
cyto_del5q = {{ code = "del5q" }}
mut_tp53 = {{ code = "TP53" }}
karyotype = {{ code = "Karyotyp" }}
hsct = {{ code = "Transplantation", absent = "nie" }}
death_date = {{ code = "Tod" }}
last_follow_up = {{ code = "Kontakt" }}
"""
    )
    return read(writer.encoded(rows), mapping)


_BASE = ("Geschlecht", "Geburt", "Diagnose", "del5q", "TP53", "Karyotyp")
_FOLLOW_UP = ("Transplantation", "Tod", "Kontakt")


def redcap(people: Sequence[Subject], style: Style) -> list[Item]:
    """Sex as check-boxes, one repeating instrument for each measurement, outcomes in another event."""
    writer = _Writer(style)
    boxes = {"w": "sex___1", "m": "sex___2", "d": "sex___3"}
    columns = ["Geburt", "Diagnose", "del5q", "TP53", "Karyotyp", *boxes.values(), *_LABS, "Labor", *_FOLLOW_UP]
    rows = [["Nr", "redcap_event_name", "redcap_repeat_instrument", "redcap_repeat_instance", *columns]]
    for each in people:
        facts = writer.facts(each)
        ticked = {box: str(int(facts["Geschlecht"] == letter)) for letter, box in boxes.items()}
        base = {name: facts[name] for name in _BASE} | ticked
        empty = dict.fromkeys(boxes.values(), "0")
        entries: list[tuple[list[str], dict[str, str]]] = [(["baseline_arm_1", "", ""], base)]
        for number, name in enumerate(_LABS, start=1):
            row = empty | {name: facts[name], "Labor": writer.day(each.lab_day)}
            entries.append((["baseline_arm_1", "labs", str(number)], row))
        entries.append((["followup_arm_1", "", ""], empty | {name: facts[name] for name in _FOLLOW_UP}))
        rows += [[each.identifier, *head, *(row.get(name, "") for name in columns)] for head, row in entries]
    mapping = (
        writer.head()
        + f"""
[redcap]
event = "baseline_arm_1"
[columns]
sex = {{ checkboxes = {{ sex___1 = "female", sex___2 = "male", sex___3 = "other" }} }}
birth_date = {{ column = "Geburt" }}
index_date = {{ column = "Diagnose" }}
hb = {{ column = "Hämoglobin", unit = "{style.hb_unit}", date_column = "Labor", instrument = "labs" }}
plt = {{ column = "Thrombozyten", unit = "{style.plt_unit}", date_column = "Labor", instrument = "labs" }}
cyto_del5q = {{ column = "del5q" }}
mut_tp53 = {{ column = "TP53" }}
karyotype = {{ column = "Karyotyp" }}
hsct = {{ column = "Transplantation", absent = "nie", event = "followup_arm_1" }}
death_date = {{ column = "Tod", event = "followup_arm_1" }}
last_follow_up = {{ column = "Kontakt", event = "followup_arm_1" }}
"""
    )
    return read(writer.encoded(rows), mapping)


def read(data: bytes, mapping: str, profile: Any = PROFILE) -> list[Item]:
    (source,) = mappings.loads(mapping, profile).sources
    assert isinstance(source, mappings.Csv)
    return list(csv_source.read(io.BytesIO(data), source, profile))


def facts(items: Iterable[Item]) -> Counter[tuple[object, ...]]:
    """Events without places, values in canonical units."""
    return Counter(_fact(item) for item in items if isinstance(item, Event))


def _fact(event: Event) -> tuple[object, ...]:
    value = event.value
    variable = next((each for each in PROFILE.scalars if each.name == event.variable), None)
    if isinstance(variable, LabVariable) and isinstance(value, Decimal):
        value = convert(value, event.unit or "", variable)
    return event.patient, str(event.variable), value, event.time, event.state


def people_of(items: Iterable[Item]) -> Counter[tuple[str, str, tuple[str, ...]]]:
    return Counter((item.system, item.identifier, item.keys) for item in items if isinstance(item, PatientRecord))


def issues(items: Iterable[Item]) -> list[tuple[str, str, int, str]]:
    return [(item.code, item.variable, item.where.line, item.where.field) for item in items if isinstance(item, Issue)]
