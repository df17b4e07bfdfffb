"""What others remember of a site's ledger, so that a restored backup or a copied directory cannot pretend otherwise.

A restored disk restores its own proof, so the proof of what was spent must lie elsewhere. A site tells its peers a
**statement** of its ledger (public numbers only), signed by its identity. A peer keeps the last statement of every site
and accepts another only if it **extends** the one it holds: if the same chain leads on from there, or if a recovery
in it names the head that is held. No upload is made before a **quorum** of peers has accepted a statement with this
process's own entry in it. Any two quorums share an honest peer, so of two copies of one ledger only one can go on.

This module is the rules. Who signs, asks and stores is the shell's business. The proof: docs/explanation/ledger.md.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from dp.chain import GENESIS, Entry, Link, canonical
from dp.entries import Recover, Terms
from dp.errors import BudgetOfAnotherKind, ForkedLedger, LedgerCorrupt, MisuseError, RollbackDetected
from dp.events import Account
from dp.ledger import MOST_OPEN_RUNS, State

__all__ = ["LARGEST_STATEMENT", "Statement", "extends", "links", "quorum", "recovery", "statement"]

_FORMAT: Final = "haemfed/ledger-statement/v1"

LARGEST_STATEMENT: Final = 1 << 16
"""Octets of an encoded statement: every open run is in it, and there are at most `dp.ledger.MOST_OPEN_RUNS`."""


@dataclass(frozen=True)
class Statement:
    """What a site says about its ledger.

    Args:
        site: name of the site.
        sequence: number of the last entry; -1 for an empty ledger.
        hash: hash of the last entry, hex; `dp.ledger.GENESIS` for an empty ledger.
        committed: units of 2⁻⁶⁴ spent and reserved, per account that was ever granted anything.
        filters: how each of these accounts adds up, and its δ: `dp.entries.Terms` as text.
        runs: ids of the runs that are open at that head, hex, sorted.
        unbounded: accounts whose ε is "not bounded", sorted.
    """

    site: str
    sequence: int
    hash: str
    committed: Mapping[str, int] = field(default_factory=dict)
    filters: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    unbounded: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the canonical octets that are signed."""
        return canonical(
            {
                "committed": {account: str(units) for account, units in self.committed.items()},
                "filters": self.filters,
                "format": _FORMAT,
                "hash": self.hash,
                "runs": self.runs,
                "sequence": self.sequence,
                "site": self.site,
                "unbounded": self.unbounded,
            }
        )

    @staticmethod
    def decode(octets: bytes) -> "Statement":
        """Read what `encode` wrote.

        Raises:
            LedgerCorrupt: anything else, another spelling included.
        """
        problem = LedgerCorrupt("not a ledger statement of this version")
        if len(octets) > LARGEST_STATEMENT:
            raise problem
        try:
            data = json.loads(octets)
            found = Statement(
                data["site"],
                data["sequence"],
                data["hash"],
                {account: _units(units) for account, units in data["committed"].items()},
                dict(data["filters"]),
                tuple(data["runs"]),
                tuple(data["unbounded"]),
            )
            found._check()
            same = found.encode() == octets
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, MisuseError) as error:
            raise problem from error
        if not same:
            raise problem
        return found

    def _check(self) -> None:
        accounts = {account.value for account in Account}
        sound = (
            bool(re.fullmatch("[a-z0-9-]{1,63}", self.site))
            and type(self.sequence) is int
            and -1 <= self.sequence < 2**63
            and bool(re.fullmatch("[0-9a-f]{64}", self.hash))
            and (self.sequence == -1) == (self.hash == GENESIS)
            and set(self.committed) == set(self.filters) <= accounts
            and all(str(Terms.parse(text)) == text for text in self.filters.values())
            and len(self.runs) <= MOST_OPEN_RUNS
            and all(re.fullmatch("[0-9a-f]{1,64}", run) for run in self.runs)
            and list(self.runs) == sorted(set(self.runs))
            and set(self.unbounded) <= accounts
            and list(self.unbounded) == sorted(set(self.unbounded))
        )
        if not sound:
            raise ValueError("a field is out of range")


def statement(state: State, site: str) -> Statement:
    """Return what a site with this ledger says.

    Args:
        state: the folded ledger.
        site: name of the site.
    """
    sequence, head = (state.head.sequence, state.head.hash) if state.head is not None else (-1, GENESIS)
    return Statement(
        site,
        sequence,
        head,
        {account.value: state.committed_units(account) for account in state.terms},
        {account.value: str(terms) for account, terms in state.terms.items()},
        state.open_runs(),
        tuple(sorted(account.value for account in state.unbounded)),
    )


def links(entries: Iterable[Entry], after: int) -> tuple[Link, ...]:
    """Return the links that lead on from entry number `after` (-1 from the beginning), bodies left out."""
    return tuple(entry.link() for entry in entries if entry.sequence > after)


def extends(held: Statement, new: Statement, chain: Sequence[Link]) -> None:
    """Accept a newer statement of a site, or say what is wrong with it.

    Returning means: the entry at `held.hash` is on the chain that ends in `new.hash`, or a recovery on that chain names
    it and took over at least what `held` had committed. The relation is transitive.

    Args:
        held: the last statement of that site that was accepted.
        new: what the site says now.
        chain: links in order that end in `new.hash`; they may begin anywhere at or before the one after `held`, or,
            for a recovery, anywhere before it.

    Raises:
        MisuseError: another site's statement, or links that begin too late to tell: ask for those after
            `held.sequence`.
        RollbackDetected: the new head is older than the held one.
        ForkedLedger: the new head does not follow from the held one: two copies of one ledger went on.
    """
    if new.site != held.site:
        raise MisuseError(f"a statement of {new.site} is not held against one of {held.site}")
    if new.sequence < held.sequence:
        raise RollbackDetected(
            f"the ledger of {new.site} ends at entry {new.sequence}, and entry {held.sequence} was seen: it was "
            "restored from a backup or copied; run: haemfed budget recover"
        )
    if new.hash == held.hash:
        if new != held:
            raise ForkedLedger(f"two statements of {new.site} about entry {new.sequence} differ: one of them is forged")
        return
    fork = ForkedLedger(
        f"the ledger of {new.site} does not contain entry {held.sequence} as it was seen: it was restored or copied, "
        "and both copies went on; stop the other copy, then run: haemfed budget recover"
    )
    if new.sequence == held.sequence:
        raise fork
    _check_chain(new, chain)
    if any(_follows(link, held) for link in chain):
        return
    if any(_names(link, held) for link in chain):
        if any(new.committed.get(account, -1) < units for account, units in held.committed.items()):
            raise fork  # a recovery can only raise what was seen
        return
    if chain[0].sequence > held.sequence + 1 and chain[0].kind != Recover.KIND:
        raise MisuseError(f"links from entry {held.sequence + 1} on are needed, these begin at {chain[0].sequence}")
    raise fork


def quorum(sites: int, collusion: int) -> int:
    """How many of the other sites must have accepted a site's statement before it uploads.

    Of m = n − 1 peers, two sets of q share at least 2q − m, which is more than c exactly if q > (m + c)/2: then an
    honest peer is in both.

    >>> [quorum(sites, 1) for sites in (3, 4, 6, 8, 16)]
    [2, 3, 4, 5, 9]

    Args:
        sites: n, sites on the study.
        collusion: c, sites that may collude.

    Raises:
        MisuseError: no number of peers is enough: n − 1 ≤ c.
    """
    peers = sites - 1
    if not 0 <= collusion < peers:
        raise MisuseError(f"{sites} sites of which {collusion} may collude have no honest peer in common")
    return max(collusion + 1, (peers + collusion) // 2 + 1)


def recovery(statements: Sequence[Statement], *, exhaust: Collection[Account] = ()) -> Recover:
    """Return the entry that takes over what was seen: the largest commitment of each account, and every open run.

    Args:
        statements: this site's own, from whoever holds them; none if only the local anchor was lost.
        exhaust: accounts that a person gives up: their statements, or the ledger, do not add up in one way. The first
            terms are named; what counts is that nothing fits any more.

    Raises:
        BudgetOfAnotherKind: they do not add up in one way: they are of different ledgers.
    """
    committed: dict[Account, int] = {}
    terms: dict[Account, Terms] = {}
    for seen in statements:
        for name, units in seen.committed.items():
            account, mine = Account(name), Terms.parse(seen.filters[name])
            if terms.setdefault(account, mine) != mine and account not in exhaust:
                raise BudgetOfAnotherKind(
                    f"the statements add up the {account} account in different ways ({terms[account]}, {mine}): its "
                    "first grant was made anew after a restore. Restore the newest backup again, grant nothing, and "
                    "recover from there; if there is none, the account can only be given up"
                )
            committed[account] = max(committed.get(account, 0), units)
    return Recover(
        tuple(sorted({(seen.sequence, seen.hash) for seen in statements if seen.sequence >= 0})),
        committed,
        terms,
        tuple(sorted({run for seen in statements for run in seen.runs})),
        tuple(sorted({Account(name) for seen in statements for name in seen.unbounded})),
        tuple(sorted(account for account in exhaust if account in committed)),
    )


def _check_chain(new: Statement, chain: Sequence[Link]) -> None:
    if not chain or (chain[-1].sequence, chain[-1].hash) != (new.sequence, new.hash):
        raise MisuseError(f"the links do not end in entry {new.sequence} of {new.site}")
    for link in chain:
        link.check()
    for before, link in pairwise(chain):
        step = link.sequence - before.sequence
        if link.previous != before.hash or step < 1 or (step > 1 and link.kind != Recover.KIND):
            raise ForkedLedger(f"link {link.sequence} of {new.site} does not follow link {before.sequence}")


def _follows(link: Link, held: Statement) -> bool:
    step = link.sequence - held.sequence
    return link.previous == held.hash and (step == 1 or (step > 1 and link.kind == Recover.KIND))


def _names(link: Link, held: Statement) -> bool:
    return link.body is not None and (held.sequence, held.hash) in Recover.parse(link.body).heads


def _units(text: object) -> int:
    if not (isinstance(text, str) and re.fullmatch("0|[1-9][0-9]{0,60}", text)):
        raise ValueError("not a whole number of units")
    return int(text)
