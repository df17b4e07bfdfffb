"""The whole ledger as one file of JSON lines, to be read and checked without the site, its keys or its database.

The first line says what the file is: the site's own statement about its last entry, signed by its identity. Every other
line is one entry. Whoever has the file can recompute the chain, fold it and add up the accounts.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from dp.errors import DPError, LedgerCorrupt
from dp.events import Account
from dp.ledger import Entry, Reserve, State
from dp.witness import Statement, statement
from nodes.balances import Line, line
from nodes.errors import StorageProblem
from nodes.fingerprint import fingerprint
from secagg.errors import SecaggError
from secagg.keys import Identity, verify

__all__ = ["Verified", "export", "verify_file"]

_FORMAT = "haemfed/ledger-export/1"
_PURPOSE = "ledger-export"
_ROUNDING = 1e-3  # of a cost: far above what two versions of one formula differ by, far below what would pay a liar


@dataclass(frozen=True)
class Verified:
    """What a ledger file says.

    Args:
        site: whose ledger.
        signer: fingerprint of the identity that signed the file.
        entries: how many.
        head: hash of the last one.
        first: time of the first entry, "" for an empty ledger.
        last: time of the last one.
        runs: runs ever approved.
        open_runs: of these, still open.
        year: the open year; 0 if none is.
        lines: both accounts.
    """

    site: str
    signer: str
    entries: int
    head: str
    first: str
    last: str
    runs: int
    open_runs: int
    year: int
    lines: tuple[Line, ...]


def export(entries: tuple[Entry, ...], state: State, site: str, identity: Identity) -> bytes:
    """Return the file.

    Args:
        entries: the whole ledger.
        state: the same, folded.
        site: name of the site.
        identity: signs the first line.
    """
    said = statement(state, site).encode()
    header = {
        "format": _FORMAT,
        "identity": base64.b64encode(identity.public).decode(),
        "signature": base64.b64encode(identity.sign(_PURPOSE, said)).decode(),
        "statement": said.decode(),
    }
    lines = [json.dumps(header, sort_keys=True), *(entry.to_json() for entry in entries)]
    return ("\n".join(lines) + "\n").encode()


def verify_file(document: bytes, source: str) -> Verified:
    """Recompute the chain and every cost, fold it, and compare it with what the site has signed.

    Args:
        document: the file.
        source: what to call it in an error.

    Raises:
        StorageProblem: names the first line that is wrong, and how.
    """
    text = document.decode("utf-8", "replace").splitlines()
    signed, public = _header(text[0] if text else "", source)
    state, first = State(), ""
    for number, content in enumerate(text[1:], start=2):
        try:
            entry = Entry.from_json(content)
            state = state.after(entry)
            _check_costs(entry, state)
        except DPError as error:
            raise StorageProblem(f"{source}: line {number}: {error}; ask the site for the file again") from error
        first = first or entry.at
    found = statement(state, signed.site)
    if found != signed:
        raise StorageProblem(
            f"{source}: line {len(text)} is not the last: it holds entry {found.sequence}, and the site has signed "
            f"{signed.sequence} with another content; lines are missing or the file was put together; ask for it again"
        )
    return Verified(
        signed.site,
        fingerprint(public),
        len(text) - 1,
        found.hash,
        first,
        state.at,
        len(state.runs),
        len(found.runs),
        state.year,
        tuple(line(state, account) for account in Account),
    )


def _check_costs(entry: Entry, state: State) -> None:
    """Refuse a reservation that was written far too cheap; a version that rounds in another way explains a trifle.

    Raises:
        LedgerCorrupt: names the release.
        BudgetOfAnotherKind: the account cannot hold it.
    """
    if entry.kind != Reserve.KIND:
        return
    for stage in Reserve.parse(entry.body).stages:
        cost = state.terms[stage.event.account].filter.units(stage.event) if stage.uploads else 0
        if stage.cost < (1 - _ROUNDING) * cost:
            raise LedgerCorrupt(
                f"an upload of {stage.event.kind} is charged {stage.cost} units and costs {cost}: no honest site "
                "wrote it"
            )


def _header(first: str, source: str) -> tuple[Statement, bytes]:
    wrong = f"{source}: line 1"
    try:
        header = json.loads(first)
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise StorageProblem(f"{wrong}: not a ledger that `haemfed budget export` of this version wrote")
        octets = str(header["statement"]).encode()
        signed = Statement.decode(octets)
        public = base64.b64decode(str(header["identity"]), validate=True)
        verify(public, base64.b64decode(str(header["signature"]), validate=True), signed.site, _PURPOSE, octets)
    except (ValueError, KeyError, RecursionError, LedgerCorrupt) as error:
        raise StorageProblem(f"{wrong}: damaged; ask the site for the file again") from error
    except SecaggError as error:
        raise StorageProblem(f"{wrong}: not signed by the identity that it names: the file was edited") from error
    return signed, public
