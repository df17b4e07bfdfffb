"""The same facts give the same events, whatever the layout, notation, units and encoding of the CSV file."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize.errors import HarmonizeError
from harmonize.events import Item
from harmonize.reporting.issues import CODES
from tests.harmonize import layouts
from tests.harmonize.layouts import Style, Subject, facts, issues, long, people_of, read, redcap, styles, subjects, wide
from tests.sweeps import examples

PLAIN = Style("utf-8", ",", ".", None, "%Y-%m-%d", "\n", "g/dL", "10*9/L")
_NOTES = {"byte-order-mark", "code-unseen"}


@settings(max_examples=examples(40), deadline=None)
@given(subjects(), st.tuples(styles(), styles(), styles()))
def test_any_layout_and_style_gives_identical_events(people: list[Subject], written: tuple[Style, ...]) -> None:
    reference = wide(people, PLAIN)

    layouts: list[Callable[[Sequence[Subject], Style], list[Item]]] = [wide, long, redcap]
    for layout, style in zip(layouts, written, strict=True):
        items = layout(people, style)
        assert facts(items) == facts(reference)
        assert people_of(items) == people_of(reference)
        assert {code for code, *_ in issues(items)} <= _NOTES


@pytest.mark.parametrize("layout", [wide, long, redcap])
def test_the_reference_says_what_was_meant(layout: Callable[[Sequence[Subject], Style], list[Item]]) -> None:
    import datetime as dt
    from decimal import Decimal

    from harmonize.events import State

    day, later = dt.date(2010, 1, 2), dt.date(2011, 3, 4)
    person = Subject(
        "Ä1", "male", None, day, Decimal("9.5"), "not-tested", day, False, True, "46,XY[20]", False, None, later
    )  # fmt: skip

    found = facts(layout([person], PLAIN))

    key = "urn:test:hospital|Ä1"
    assert set(found) == {
        (key, "sex", "male", None, State.VALUE),
        (key, "index_date", day, None, State.VALUE),
        (key, "hb", Decimal("9.5"), day, State.VALUE),
        (key, "plt", None, day, State.NOT_TESTED),
        (key, "cyto_del5q", False, None, State.TESTED_NEGATIVE),
        (key, "mut_tp53", True, None, State.VALUE),
        (key, "karyotype", "46,XY[20]", None, State.VALUE),
        (key, "hsct", False, None, State.VALUE),
        (key, "last_follow_up", later, None, State.VALUE),
    }


@settings(max_examples=examples(100), deadline=None)
@given(st.sampled_from([wide, long, redcap]), styles(), st.data())
def test_a_damaged_file_ends_in_an_error_with_a_way_out(
    layout: Callable[[Sequence[Subject], Style], list[Item]], style: Style, data: st.DataObject
) -> None:
    people = data.draw(subjects())
    where = data.draw(st.floats(0, 1))
    junk = data.draw(st.binary(max_size=6) | st.sampled_from([b'"', b"\r", b"\n", style.delimiter.encode(), b"\0"]))

    def damaged(octets: bytes, mapping: str) -> list[Item]:
        at = int(where * len(octets))
        return read(octets[:at] + junk + octets[at + len(junk) :], mapping)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "read", damaged)
        try:
            items = layout(people, style)
        except HarmonizeError as error:
            message = str(error)
            assert "\n" not in message
            assert all(len(each.identifier) < 4 or each.identifier not in message for each in people)
        else:
            assert all(code in CODES for code, *_ in issues(items))
