"""Bugs in the ledger and in what witnesses accept of it."""

from tests.dp.planted import Mutant, bug

BY_CLOCK = (
    "state = replace(self, head=Head(entry.sequence, entry.hash), at=entry.at, "
    "year=max(self.year, int(entry.at[:4])) if self.year else 0)"
)

BUGS: tuple[Mutant, ...] = (
    bug(
        "the hash leaves out the time",
        "dp/chain.py",
        "book:any_edit_of_any_field_is_seen",
        "a year is opened in retrospect",
        ('content = {"at": at, "body_digest"', 'content = {"body_digest"'),
    ),
    bug(
        "the hash leaves out the body",
        "dp/chain.py",
        "book:any_edit_of_any_field_is_seen",
        "charges are edited",
        ('content = {"at": at, "body_digest": body_digest,', 'content = {"at": at,'),
    ),
    bug(
        "a closed run gets its uploads back",
        "dp/runs.py",
        "book:uploads_are_spent_for_ever",
        "abort, refund, ask again: averages the noise away",
        ("return replace(self, open=False, lost=lost)", "return replace(self, open=False, lost=lost, used={})"),
    ),
    bug(
        "an upload is not counted",
        "dp/runs.py",
        "book:uploads_are_spent_for_ever",
        "every step for the price of the first",
        ("used={**self.used, kind: self.used.get(kind, 0) + 1}", "used={**self.used, kind: 1}"),
    ),
    bug(
        "a run that another process took over is refunded",
        "dp/runs.py",
        "book:a_run_that_another_process_took_over_gives_nothing_back",
        "a restored disk does not know what was uploaded",
        ("if self.resumed and (left := self.left(kind)) > 0}", "if False and (left := self.left(kind)) > 0}"),
    ),
    bug(
        "one upload more than was reserved",
        "dp/runs.py",
        "book:no_run_uploads_more_than_it_reserved",
        "the noise was calibrated to the reservation",
        ("if self.left(kind) < 1:", "if self.left(kind) < 0:"),
    ),
    bug(
        "an upload with less noise than was reserved",
        "dp/runs.py",
        "book:no_run_uploads_more_than_it_reserved",
        "charged for z, sent with z/2",
        (" or item.event != self.stages[kind].event:", ":"),
    ),
    bug(
        "a round number twice",
        "dp/runs.py",
        "book:no_run_uploads_more_than_it_reserved",
        "one charge for two uploads in a replay",
        ("if number <= self.last_round:", "if number < self.last_round:"),
    ),
    bug(
        "a run is approved twice",
        "dp/ledger.py",
        "book:no_run_uploads_more_than_it_reserved",
        "a second reservation replaces the first and what it spent",
        ("    if name in state.runs:\n", "    if False:\n"),
    ),
    bug(
        "a study may take the whole account",
        "dp/limits.py",
        "book:a_reservation_beyond_any_limit_is_refused",
        "the limit for one study is ink",
        ("if grant.study_epsilon is not None and", "if False and grant.study_epsilon is not None and"),
    ),
    bug(
        "each run has the study's limit to itself",
        "dp/ledger.py",
        "book:a_reservation_beyond_any_limit_is_refused",
        "a study that is started often",
        (
            "for run in self.runs.values() if run.study == study)",
            "for run in self.runs.values() if run.study == study and False)",
        ),
    ),
    bug(
        "the year is opened by the clock",
        "dp/ledger.py",
        "book:time_alone_frees_no_budget",
        "a clock that is set forward frees a budget",
        (
            "state = replace(self, head=Head(entry.sequence, entry.hash), at=entry.at)",
            BY_CLOCK,
        ),
    ),
    bug(
        "a year is opened ahead",
        "dp/ledger.py",
        "book:time_alone_frees_no_budget",
        "ten years' budget in one",
        ("if year > (reached := datetime.fromisoformat(state.at).year):", "if year > (reached := 9999):"),
    ),
    bug(
        "a later grant changes δ or the kind of budget",
        "dp/ledger.py",
        "book:the_terms_of_an_account_never_change",
        "what was charged cannot be added up any more",
        (
            "if old is not None and terms != old:\n        raise BudgetOfAnotherKind(\n",
            "if False:\n        raise BudgetOfAnotherKind(\n",
        ),
    ),
    bug(
        "recovery takes the least that was seen",
        "dp/witness.py",
        "book:what_was_seen_is_spent_after_a_recovery",
        "restore the oldest backup, ask the oldest witness",
        (
            "committed[account] = max(committed.get(account, 0), units)",
            "committed[account] = min(committed.get(account, units), units)",
        ),
    ),
    bug(
        "recovery carries nothing over",
        "dp/ledger.py",
        "book:what_was_seen_is_spent_after_a_recovery",
        "a backup frees what was spent since",
        ("max(0, units - state.committed_units(account))", "0"),
    ),
    bug(
        "runs stay open after a recovery",
        "dp/ledger.py",
        "book:what_was_seen_is_spent_after_a_recovery",
        "their uploads may have been made already",
        (
            "    for name in state.open_runs():\n        state = _closed(",
            "    for name in ():\n        state = _closed(",
        ),
    ),
    bug(
        "a run without noise leaves the account bounded",
        "dp/ledger.py",
        "book:a_run_without_noise_is_never_forgotten",
        "ε is reported for patients whom nothing protected",
        ("unbounded=state.unbounded | item.accounts)", "unbounded=state.unbounded)"),
    ),
    bug(
        "a recovery forgets a run without noise",
        "dp/ledger.py",
        "book:a_run_without_noise_is_never_forgotten",
        "the same, by restoring a backup",
        ("unbounded=state.unbounded | set(item.unbounded))", "unbounded=state.unbounded)"),
    ),
    bug(
        "the head of a fork is accepted",
        "dp/witness.py",
        "book:two_copies_of_a_ledger_are_not_both_witnessed",
        "a copied directory spends the budget twice",
        (
            "    if new.sequence == held.sequence:\n        raise fork\n",
            "    if new.sequence == held.sequence:\n        return\n",
        ),
    ),
    bug(
        "a longer chain is accepted, whatever it leads on from",
        "dp/witness.py",
        "book:two_copies_of_a_ledger_are_not_both_witnessed",
        "the copy that runs ahead wins",
        ("return link.previous == held.hash and (step == 1", "return (step == 1"),
    ),
    bug(
        "an older head is accepted",
        "dp/witness.py",
        "book:two_copies_of_a_ledger_are_not_both_witnessed",
        "a restored backup goes on",
        (
            "    if new.sequence < held.sequence:\n        raise",
            "    if new.sequence < held.sequence:\n        return\n        raise",
        ),
    ),
    bug(
        "a quorum of c + 1",
        "dp/witness.py",
        "book:two_quorums_share_an_honest_peer",
        "two copies, each witnessed by its own half of the consortium",
        ("max(collusion + 1, (peers + collusion) // 2 + 1)", "collusion + 1"),
    ),
)
