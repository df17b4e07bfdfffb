"""The fold against an adversary with a text editor, a backup and a crash."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp import entries, ledger
from dp.budget import Budget, Filter
from dp.errors import (
    BudgetExceeded,
    ClockWentBack,
    ConfigError,
    DPError,
    LedgerCorrupt,
    MisuseError,
    ReservationExceeded,
    RollbackDetected,
    RunReused,
    UnknownEvent,
)
from dp.events import ACCOUNT_OF, Account, GaussianEvent
from dp.ledger import (
    GENESIS,
    Close,
    Entry,
    Grant,
    Head,
    Recover,
    Reserve,
    Resume,
    Stage,
    State,
    append,
    fold,
)
from tests.dp.books import (
    BRESLOW,
    CONCORDANCE,
    GRADIENT,
    GRANTED,
    HOLDOUT,
    NOON,
    RECOVERED,
    STUDY,
    TRAINING,
    Book,
    Z,
    reservation,
    run_id,
    upload,
)
from tests.sweeps import examples


def test_a_whole_study(book: Book) -> None:
    book.add(reservation())
    assert book.state.remaining(TRAINING) == pytest.approx(0, abs=1e-8)
    for number in range(1, 67):
        book.add(upload(number))
    for number, event in ((67, BRESLOW), (68, CONCORDANCE)):
        book.add(upload(number, event))
    book.add(Close(run_id(), "complete"))

    state = fold(book.entries)
    assert state == book.state
    assert state.spent(TRAINING) == pytest.approx(66 / Z["gradient"] ** 2 + 1 / Z["breslow"] ** 2)
    assert state.spent(HOLDOUT) == pytest.approx(1 / 9)
    assert state.reserved(TRAINING) == 0
    assert state.remaining(TRAINING) == pytest.approx(1 / Z["breslow"] ** 2, rel=1e-6)  # one breslow came back
    assert dict(state.events(TRAINING)) == {GRADIENT: 66, BRESLOW: 1}
    assert dict(state.events(HOLDOUT)) == {CONCORDANCE: 1}


def test_nothing_without_a_grant() -> None:
    book = Book()
    with pytest.raises(BudgetExceeded, match="grant"):
        book.add(reservation())
    assert book.entries == []


def test_an_overdraft_records_nothing(book: Book) -> None:
    book.add(reservation())
    before = book.state
    with pytest.raises(BudgetExceeded, match="training account"):
        book.add(reservation(2))

    assert book.state == before


def test_the_last_unit_fits_and_one_more_does_not(book: Book) -> None:
    event = GaussianEvent("gradient", 1e9, TRAINING)
    uploads = book.state.remaining_units(TRAINING) // event.units
    with pytest.raises(BudgetExceeded):
        book.add(Reserve(STUDY, run_id(), (Stage(event, uploads + 1),)))
    book.add(Reserve(STUDY, run_id(), (Stage(event, uploads),)))
    assert book.state.remaining_units(TRAINING) < event.units


def test_an_upload_beyond_its_reservation_is_refused(book: Book) -> None:
    book.add(reservation(uploads=2))
    book.add(upload(1))
    book.add(upload(2))
    with pytest.raises(ReservationExceeded, match="all 2 uploads of gradient"):
        book.add(upload(3))


@pytest.mark.parametrize(
    ("item", "error", "words"),
    [
        (upload(1, number=9), ReservationExceeded, "not approved"),
        (upload(1, study="ab" * 32), ReservationExceeded, "another study"),
        (upload(1, GaussianEvent("calibration", 3.0, HOLDOUT)), ReservationExceeded, "no reservation"),
        (upload(1, replace(GRADIENT, multiplier=1.0)), ReservationExceeded, "no reservation"),
        (upload(1, replace(GRADIENT, multiplier=1e3)), ReservationExceeded, "no reservation"),
        (Close(run_id(9), "?"), ReservationExceeded, "not approved"),
        (reservation(), RunReused, "approved before"),
    ],
)
def test_what_no_reservation_covers(book: Book, item: ledger.Item, error: type[Exception], words: str) -> None:
    book.add(reservation())
    with pytest.raises(error, match=words):
        book.add(item)


def test_rounds_only_grow(book: Book) -> None:
    book.add(reservation())
    book.add(upload(5))
    for number in (5, 4, 0):
        with pytest.raises(MisuseError, match="not after 5"):
            book.add(upload(number))
    book.add(upload(1000))


def test_a_closed_run_is_closed_for_ever(book: Book) -> None:
    book.add(reservation())
    book.add(upload(1))
    left = book.state.remaining(TRAINING)
    book.add(Close(run_id(), "stopped"))

    assert book.state.remaining(TRAINING) > left
    for item, error in (
        (upload(2), ReservationExceeded),
        (Close(run_id(), "again"), ReservationExceeded),
        (reservation(), RunReused),
    ):
        with pytest.raises(error):
            book.add(item)


def test_two_accounts_do_not_mix(book: Book) -> None:
    book.add(Reserve(STUDY, run_id(), (Stage(CONCORDANCE, 2),)))

    assert book.state.reserved(TRAINING) == 0
    assert book.state.reserved(HOLDOUT) == pytest.approx(2 / 9)


def test_parallel_runs_share_one_account(book: Book) -> None:
    half = (Stage(GRADIENT, 33),)
    book.add(Reserve(STUDY, run_id(1), half))
    book.add(Reserve(STUDY, run_id(2), half))
    book.add(upload(1, number=1))
    book.add(upload(1, number=2))
    with pytest.raises(BudgetExceeded):
        book.add(Reserve(STUDY, run_id(3), half))


def test_a_lower_grant_stops_the_account(book: Book) -> None:
    book.add(reservation())
    book.add(Grant(TRAINING, 0.5, 1e-5))

    assert book.state.remaining(TRAINING) == 0
    book.add(upload(1))  # what was approved may finish


def test_a_higher_grant_opens_it_again(book: Book) -> None:
    book.add(reservation())
    book.add(Grant(TRAINING, 3.0, 1e-5))
    book.add(reservation(2, uploads=10))


@pytest.mark.parametrize("at", ["2026-01-01T11:59:59Z", "2025-12-31T23:00:00+00:00"])
def test_time_only_moves_forward(book: Book, at: str) -> None:
    with pytest.raises(ClockWentBack, match="correct the clock"):
        book.add(reservation(), at)
    book.add(reservation(), NOON)
    book.add(upload(1), "2026-01-01T12:00:00.000001+00:00")


@pytest.mark.parametrize("at", ["", "yesterday", "2026-01-01", "2026-01-01T13:00:00", "2026-01-01T13:00:00+01:00"])
def test_time_is_utc(book: Book, at: str) -> None:
    with pytest.raises(MisuseError, match="ledger time"):
        book.add(reservation(), at)


RESERVED = reservation().body()


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        ("refund", {}, MisuseError),
        ("grant", {"account": "training", "epsilon": "2.0"}, MisuseError),
        ("grant", {**GRANTED, "epsilon": 2.0}, MisuseError),
        ("grant", {**GRANTED, "epsilon": "2.00"}, MisuseError),
        ("grant", {**GRANTED, "account": "mine"}, MisuseError),
        ("grant", {**GRANTED, "epsilon": "-2.0"}, ConfigError),
        ("grant", {**GRANTED, "epsilon": "0.0"}, ConfigError),
        ("grant", {**GRANTED, "epsilon": "nan"}, ConfigError),
        ("grant", {**GRANTED, "epsilon": "inf"}, ConfigError),
        ("grant", {**GRANTED, "kind": "PLD"}, ConfigError),
        ("grant", {**GRANTED, "kind": "RDP", "order": 1}, ConfigError),
        ("grant", {**GRANTED, "order": 8}, ConfigError),
        ("grant", {**GRANTED, "study_epsilon": "0.0"}, ConfigError),
        ("grant", {**GRANTED, "year_epsilon": "nan"}, ConfigError),
        ("grant", {**GRANTED, "year_epsilon": "2.5"}, ConfigError),
        ("open-year", {"year": "2026"}, MisuseError),
        ("open-year", {"year": 2026.0}, MisuseError),
        ("open-year", {"year": 2027}, ConfigError),
        ("resume", {"run": run_id(), "process": ""}, MisuseError),
        ("unprotected", {"study": STUDY, "run": run_id(), "uploads": {}, "process": ""}, MisuseError),
        ("unprotected", {"study": STUDY, "run": run_id(), "uploads": {"x": 1}, "process": ""}, MisuseError),
        ("recover", {**RECOVERED, "committed": {"training": 1}}, MisuseError),
        ("recover", {**RECOVERED, "committed": {"training": "-1"}, "terms": {"training": "GDP 1e-05"}}, MisuseError),
        ("recover", {**RECOVERED, "committed": {"training": "1"}}, MisuseError),
        ("recover", {**RECOVERED, "terms": {"training": "GDP"}, "committed": {"training": "1"}}, MisuseError),
        ("recover", {**RECOVERED, "heads": [{"sequence": 1}]}, MisuseError),
        ("recover", {**RECOVERED, "heads": "1"}, MisuseError),
        ("recover", {**RECOVERED, "runs": [7]}, MisuseError),
        ("recover", {**RECOVERED, "unbounded": ["mine"]}, MisuseError),
        ("reserve", {**RESERVED, "stages": []}, MisuseError),
        ("reserve", {**RESERVED, "stages": "gradient"}, MisuseError),
        ("reserve", {**RESERVED, "stages": ["gradient"]}, MisuseError),
        ("reserve", {**RESERVED, "run": "RUN"}, MisuseError),
        ("reserve", {**RESERVED, "process": "P"}, MisuseError),
        (
            "reserve",
            {**RESERVED, "stages": [{**GRADIENT.to_json(), "cost": "1", "uploads": -66}]},
            MisuseError,
        ),
        (
            "reserve",
            {**RESERVED, "stages": [{**GRADIENT.to_json(), "cost": "1", "uploads": True}]},
            MisuseError,
        ),
        (
            "reserve",
            {**RESERVED, "stages": [{**GRADIENT.to_json(), "cost": "1", "uploads": 1}] * 2},
            MisuseError,
        ),
        ("reserve", {**RESERVED, "stages": [{**GRADIENT.to_json(), "uploads": 1}]}, MisuseError),
        ("reserve", {**RESERVED, "stages": [{**GRADIENT.to_json(), "cost": 1, "uploads": 1}]}, MisuseError),
        ("reserve", {**RESERVED, "stages": [{**GRADIENT.to_json(), "cost": "-1", "uploads": 1}]}, MisuseError),
        ("recover", {**RECOVERED, "exhausted": ["training"]}, MisuseError),
        ("reserve", {**RESERVED, "stages": [{"kind": "x", "uploads": 1}]}, UnknownEvent),
        ("upload", {**upload(1).body(), "round": "1"}, MisuseError),
        ("upload", {**upload(1).body(), "event": {"kind": "gradient"}}, UnknownEvent),
        ("upload", {**upload(1).body(), "note": "x"}, MisuseError),
    ],
)
def test_malformed_bodies(book: Book, kind: str, body: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        append(book.state, kind, body, NOON)


# --- the chain -------------------------------------------------------------------------------------


def long_book() -> Book:
    book = Book()
    book.add(Grant(TRAINING, 2.0, 1e-5))
    book.add(Grant(HOLDOUT, 2.0, 1e-5))
    book.add(reservation())
    for number in range(1, 6):
        book.add(upload(number), f"2026-01-01T12:00:0{number}Z")
    book.add(Close(run_id(), "complete"), "2026-01-01T12:01:00Z")
    return book


LONG = long_book()


def rehash(entry: Entry) -> Entry:
    return replace(entry, hash=entry.computed_hash())


def test_json_lines_round_trip() -> None:
    lines = [entry.to_json() for entry in LONG.entries]

    assert [Entry.from_json(line) for line in lines] == LONG.entries
    assert [Entry.from_json(line).to_json() for line in lines] == lines
    assert LONG.entries[0].previous == GENESIS


def test_the_hash_is_pinned() -> None:
    """Another value here makes every ledger in the field unreadable."""
    entry = append(State(), "grant", Grant(TRAINING, 2.0, 1e-5).body(), NOON)

    assert entry.hash == "c9511c284131132252771eff980cb08bb32247877ecab707cbfa2e91efe27bf8"


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_any_edit_without_the_hash_is_seen(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(LONG.entries) - 1))
    old = LONG.entries[place]
    change = data.draw(
        st.sampled_from(
            [
                {"sequence": old.sequence + 1},
                {"previous": "1" * 64},
                {"kind": "close" if old.kind != "close" else "grant"},
                {"at": "2026-01-01T12:00:30Z"},
                {"hash": "0" * 64},
                {"body": {**old.body, "extra": 1}},
                {"body": dict(list(old.body.items())[1:])},
            ]
        )
    )
    entries = [*LONG.entries[:place], replace(old, **change), *LONG.entries[place + 1 :]]

    with pytest.raises(LedgerCorrupt, match=f"ledger entry {place}"):
        fold(entries)


@pytest.mark.parametrize("place", range(len(LONG.entries) - 1))
def test_an_edit_with_the_hash_breaks_the_next_link(place: int) -> None:
    entries = list(LONG.entries)
    later = entries[place].at.replace("Z", ".000001Z")
    entries[place] = rehash(replace(entries[place], at=later))

    with pytest.raises(LedgerCorrupt, match=f"ledger entry {place + 1}: it does not continue"):
        fold(entries)


@pytest.mark.parametrize("place", range(len(LONG.entries) - 1))
def test_a_removed_entry_is_seen(place: int) -> None:
    with pytest.raises(LedgerCorrupt, match=f"ledger entry {place}"):
        fold(LONG.entries[:place] + LONG.entries[place + 1 :])


@settings(max_examples=examples(40), deadline=None)
@given(order=st.permutations(range(len(LONG.entries))))
def test_a_reordered_ledger_is_seen(order: list[int]) -> None:
    if list(order) == sorted(order):
        return
    with pytest.raises(LedgerCorrupt):
        fold([LONG.entries[i] for i in order])


def test_a_doubled_entry_is_seen() -> None:
    with pytest.raises(LedgerCorrupt, match="ledger entry 4"):
        fold([*LONG.entries[:4], LONG.entries[3], *LONG.entries[4:]])


def test_a_chain_rewritten_from_scratch_still_cannot_overdraw() -> None:
    """Whoever can recompute hashes can lie about the past, not about the rules."""
    book = Book()
    book.add(Grant(TRAINING, 2.0, 1e-5))
    stages = (Stage(GRADIENT, 10_000, GRADIENT.units),)
    item = Reserve(STUDY, run_id(), stages)
    draft = Entry(1, book.entries[0].hash, item.KIND, item.body(), NOON, "")

    with pytest.raises(LedgerCorrupt, match=r"ledger entry 1: run .* needs"):
        fold([*book.entries, rehash(draft)])
    for stage in (Stage(GRADIENT, 10), Stage(GRADIENT, 10, 0)):
        body = replace(item, stages=(stage,)).body()
        with pytest.raises(LedgerCorrupt, match="does not say what an upload of gradient costs"):
            fold([*book.entries, rehash(replace(draft, body=body))])


def test_a_cost_that_was_written_is_never_computed_again(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version rounds the same formula in another way: its own old entries stay what they were."""
    book.add(reservation(uploads=10))
    book.add(upload(1))
    written = book.state
    assert [stage.cost for stage in Reserve.parse(book.entries[-2].body).stages] == [
        event.units for event in (GRADIENT, BRESLOW, CONCORDANCE)
    ]
    units = Filter.units
    for other in (lambda rule, event: units(rule, event) + 7, lambda rule, event: units(rule, event) - 7):
        monkeypatch.setattr(Filter, "units", other)
        assert fold(book.entries) == written
        again = append(written, *_pair(upload(2)), "2026-01-01T12:00:01Z")
        assert written.after(again).spent_units(TRAINING) == 2 * GRADIENT.units


def test_a_reservation_names_no_less_than_it_costs(book: Book) -> None:
    for wrong in (1, GRADIENT.units - 1):
        with pytest.raises(MisuseError, match=f"an upload costs {GRADIENT.units} units, not {wrong}"):
            book.add(Reserve(STUDY, run_id(), (Stage(GRADIENT, 10, wrong),)))
    book.add(Reserve(STUDY, run_id(), (Stage(GRADIENT, 10, GRADIENT.units + 5),)))
    assert book.state.committed_units(TRAINING) == 10 * (GRADIENT.units + 5)


def test_a_witness_sees_a_restored_backup() -> None:
    head = LONG.state.head
    assert fold(LONG.entries, witnessed=head).head == head
    assert fold(LONG.entries, witnessed=Head(3, LONG.entries[3].hash)).head == head
    with pytest.raises(RollbackDetected, match="backup"):
        fold(LONG.entries[:-1], witnessed=head)
    with pytest.raises(RollbackDetected):
        fold([], witnessed=head)


def test_cloned_ledger_fork() -> None:
    """Two copies of one directory go on separately: the heads have one sequence and two hashes."""
    mine, clone = Book(), Book()
    for book in (mine, clone):
        for entry in LONG.entries[:4]:
            book.entries.append(entry)
            book.state = book.state.after(entry)
    seen = mine.add(upload(2), "2026-01-01T12:00:03Z")
    clone.add(upload(2), "2026-01-01T12:00:04Z")

    with pytest.raises(RollbackDetected):
        fold(clone.entries, witnessed=Head(seen.sequence, seen.hash))


@pytest.mark.parametrize("line", ["", "{", "[]", "3", '{"sequence": 1}', "[" * 100_000])
def test_lines_that_are_no_entries(line: str) -> None:
    with pytest.raises(LedgerCorrupt):
        Entry.from_json(line)


@pytest.mark.parametrize(("name", "value"), [("sequence", "0"), ("sequence", True), ("body", []), ("at", 5)])
def test_lines_with_wrong_types(name: str, value: Any) -> None:
    import json

    data = json.loads(LONG.entries[0].to_json()) | {name: value}
    with pytest.raises(LedgerCorrupt):
        Entry.from_json(json.dumps(data))


def test_append_takes_entries_or_state() -> None:
    body = Grant(TRAINING, 3.0, 1e-5).body()
    at = "2026-01-02T00:00:00Z"

    assert append(LONG.entries, "grant", body, at) == append(LONG.state, "grant", body, at)


# --- any history -----------------------------------------------------------------------------------

actions = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(1, 4), st.integers(0, 40)),
        st.tuples(st.just("upload"), st.integers(1, 4), st.integers(0, 30)),
        st.tuples(st.just("close"), st.integers(1, 4), st.just(0)),
        st.tuples(st.just("resume"), st.integers(1, 4), st.just(0)),
        st.tuples(st.just("recover"), st.just(0), st.integers(0, 50)),
        st.tuples(st.just("grant"), st.sampled_from([1, 2, 3]), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=examples(60), deadline=None)
@given(actions)
def test_no_history_under_counts_or_overdraws(steps: list[tuple[str, int, int]]) -> None:
    """Against a ledger that keeps nothing but a list of uploads and the largest grant."""
    book, uploaded, largest = Book(), [], 0
    for kind, number, size in steps:
        item = {
            "reserve": lambda n=number, s=size: reservation(n, s),
            "upload": lambda n=number, s=size: upload(s, [GRADIENT, BRESLOW, CONCORDANCE][s % 3], n),
            "close": lambda n=number: Close(run_id(n), "done"),
            "resume": lambda n=number: Resume(run_id(n), "ab"),
            "recover": lambda s=size: Recover(((s, "ab"),)),
            "grant": lambda n=number: Grant([TRAINING, HOLDOUT][n % 2], float(n), 1e-5),
        }[kind]()
        try:
            book.add(item)
        except DPError:
            continue
        if kind == "upload":
            uploaded.append(item.event)
        if kind == "grant":
            largest = max(largest, Budget(float(number), 1e-5).units)

    assert fold(book.entries) == book.state
    for account in Account:
        truth = sum(event.units for event in uploaded if event.account is account)
        counted = sum(event.units * n for event, n in book.state.events(account))
        assert truth <= counted == book.state.spent_units(account)
        assert book.state.committed_units(account) <= largest
        assert sum(n for _, n in book.state.events(account)) >= sum(e.account is account for e in uploaded)
        if not any(kind in ("resume", "recover") for kind, _, _ in steps):
            assert truth == counted
        for event, _ in book.state.events(account):
            assert ACCOUNT_OF[event.kind] is account


def test_crash_between_debit_and_upload_over_counts() -> None:
    """The entry exists before the bytes leave: the fold after a crash holds the charge."""
    book = Book()
    book.add(Grant(TRAINING, 2.0, 1e-5))
    book.add(Reserve(STUDY, run_id(), (Stage(GRADIENT, 3),)))
    entry = append(book.state, *_pair(upload(1)), NOON)  # written, then the process dies
    after = fold([*book.entries, entry])

    assert after.spent(TRAINING) > 0
    with pytest.raises(MisuseError, match="not after 1"):
        append(after, *_pair(upload(1)), NOON)


def _pair(item: ledger.Item) -> tuple[str, dict[str, ledger.JSON]]:
    return item.KIND, item.body()


def test_kinds_are_closed() -> None:
    assert set(entries._ITEMS) == {
        "grant",
        "reserve",
        "unprotected",
        "resume",
        "upload",
        "plain",
        "close",
        "open-year",
        "recover",
    }
