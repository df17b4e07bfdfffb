"""Cells that say nothing, and must not become a negative finding or a patient without an event."""

import pytest

from harmonize.errors import MappingError
from harmonize.profile import load
from harmonize.table import Table, build
from tests.harmonize.layouts import read
from tests.harmonize.patients import KEY, SYSTEM
from tests.sweeps import thinned

MDS = load("mds")
DATES = "2010-01-01,2015-01-01"
MAPPING = f"""
format = "csv"
profile = "mds"
files = ["p.csv"]
[patient]
system = "{SYSTEM}"
column = "id"
[csv]
missing = {{ "?" = "unknown", "." = "not-recorded" }}
[columns]
index_date = {{ column = "dx" }}
last_follow_up = {{ column = "fu" }}
"""
PAIR = 'transformation = { column = "day", event_column = "aml", present = "1", absent = "0" }'


def table(columns: str, header: str, *rows: str) -> Table:
    text = "\n".join([f"id,dx,fu,{header}", *(f"P{at},{DATES},{row}" for at, row in enumerate(rows))])
    return build(read(text.encode(), MAPPING + columns, MDS), MDS, KEY)[0]


@pytest.mark.parametrize(
    ("row", "time", "event"),
    thinned(
        (
            pytest.param(*each)
            for each in [
                ("0,", 1826, False),
                ("1,2012-01-01", 730, True),
                (",", 1826, False),  # nobody says anything: no event until the end of follow-up
                (".,", 1826, False),
                ("?,", None, None),
                ("?,2012-01-01", None, None),
                (",2012-01-01", None, None),
            ]
        ),
        2,
    ),
)
def test_an_event_of_which_nobody_knows(row: str, time: int | None, event: bool | None) -> None:
    found = table(PAIR, "aml,day", row)

    assert found.arrow["transformation_time"].to_pylist() == [time]
    assert found.arrow["transformation_event"].to_pylist() == [event]


@pytest.mark.parametrize("target", ["mut_tp53", "cyto_del5q"])
def test_a_box_that_is_not_ticked_is_no_test(target: str) -> None:
    box = f'{target} = {{ column = "box___1", present = "1", absent = "0" MORE }}'
    with pytest.raises(MappingError, match=rf"columns.{target}.absent: a check-box is 0 also where nobody looked"):
        table(box.replace("MORE", ""), "box___1", "0")
    silent = f'{target} = {{ column = "box___1", present = "1", missing = {{ "0" = "not-recorded" }} }}'
    found = table(silent, "box___1", "0", "1")
    assert sorted(found.arrow[f"{target}__m"].to_pylist()) == [0, 1]
    asked = box.replace("MORE", ', tested_column = "ngs", tested = "1"')
    assert sorted(table(asked, "box___1,ngs", "0,1", "0,").arrow[f"{target}__m"].to_pylist()) == [1, 4]
