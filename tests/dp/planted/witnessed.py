"""Bugs in who is witnessed, by whom, and when a site may upload."""

from tests.dp.planted import Mutant, bug

OUR_OWN = "and _signed(mine, objection.signature, site, STATEMENT, objection.statement)"

BUGS: tuple[Mutant, ...] = (
    bug(
        "a receipt for another start of the process",
        "nodes/witnessing.py",
        "witnessed:receipts_of_an_earlier_process_are_worth_nothing",
        "a clone is witnessed by what its original was told",
        ("if receipt.nonce == self._nonce and receipt.digest", "if receipt.digest"),
    ),
    bug(
        "a peer answers and forgets",
        "nodes/witnessing.py",
        "witnessed:a_restored_site_is_told_so",
        "nobody holds it against the restored copy",
        ("        if row is None or row.sequence < stated.sequence:\n", "        if row is None:\n"),
    ),
    bug(
        "an objection is believed without our own signature",
        "nodes/witnessing.py",
        "witnessed:a_liar_stops_nobody",
        "one site stops all others",
        (OUR_OWN, ""),
    ),
    bug(
        "an upload before the ledger is witnessed",
        "nodes/accounts.py",
        "witnessed:nothing_is_charged_before_the_ledger_is_witnessed",
        "a restored copy spends what was spent",
        ("        if not self.is_witnessed(run_id):\n", "        if False:\n"),
    ),
    bug(
        "any statement witnesses a run",
        "nodes/accounts.py",
        "witnessed:nothing_is_charged_before_the_ledger_is_witnessed",
        "what peers have seen is not this process's entry",
        (
            "if not mine or name not in self._begun or seen.sequence < self._begun[name]:",
            "if not mine:",
        ),
    ),
    bug(
        "a session that does not ask its witnesses",
        "nodes/session.py",
        "witnessed:a_session_sends_no_upload_before_the_ledger_is_witnessed",
        "stored bytes of a restored copy go out again",
        (" or not self._witness.admits(step):", ":"),
    ),
    bug(
        "the anchor is not looked at",
        "nodes/accounts.py",
        "witnessed:a_restored_directory_is_noticed_without_any_peer",
        "a backup of the database gives the budget back",
        ("if anchor is not None and not restoring:", "if False:"),
    ),
    bug(
        "a lost anchor is made anew",
        "nodes/anchor.py",
        "witnessed:a_restored_directory_is_noticed_without_any_peer",
        "remove one file, restore another",
        ("if now.sequence >= 0:", "if False:"),
    ),
    bug(
        "one receipt marks the run",
        "nodes/witnessing.py",
        "witnessed:a_quorum_of_pinned_peers_witnesses_and_nobody_less",
        "one colluding peer witnesses a restored copy",
        ("len(self._receipts) + 1 == self._quorum", "len(self._receipts) + 1 == 1"),
    ),
    bug(
        "a receipt rules out rounds, whatever their stage",
        "nodes/witnessing.py",
        "witnessed:a_restored_process_opens_no_stage_again",
        "a dear stage is summed twice along two histories",
        ("sum(here.follows(last) for last", "sum(here.round > last.round for last"),
    ),
    bug(
        "a stage may begin again later",
        "nodes/windows.py",
        "witnessed:a_restored_process_opens_no_stage_again",
        "the window of the second history counts anew",
        (
            "(self.stage, -self.start) >= (other.stage, -other.start)",
            "self.stage >= other.stage",
        ),
    ),
    bug(
        "a new start of a peer forgets the stage",
        "nodes/witnessing.py",
        "witnessed:a_restored_process_opens_no_stage_again",
        "its receipt rules out nothing but numbers",
        ("self._before = place(last_round)", "self._before = Placed(last_round, 0, last_round)"),
    ),
    bug(
        "whoever is on the study is a peer",
        "nodes/witnessing.py",
        "witnessed:a_quorum_of_pinned_peers_witnesses_and_nobody_less",
        "hospitals that the coordinator invented witness",
        ("if each.name != site and key in pins", "if each.name != site"),
    ),
)
