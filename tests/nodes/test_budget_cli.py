"""`haemfed budget` as the data protection officer types it: what it says, how it ends, what it leaves."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import shutil
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from dp.events import Account, GaussianEvent
from dp.ledger import Entry, Grant, Reserve, Stage, append, fold
from dp.witness import Statement
from nodes import accounts, cli, files, rollback
from nodes import study as studies
from nodes.cli import options, terminal
from nodes.config import SiteConfig, load
from nodes.enrolment import load_identity
from nodes.errors import StorageProblem
from nodes.ledger_file import export, verify_file
from nodes.provision import create_site
from nodes.store import SiteStore
from nodes.study import SignedStudy
from nodes.whatif import of_study
from nodes.witness_notes import STATEMENT
from nodes.witnessing import Objected
from secagg.manifest import Noise
from tests.nodes.studies import NOW
from tests.nodes.studies import make as drafted


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site without a grant, and one with a grant of ε = 2 to both accounts; every test has a copy of one."""
    root = tmp_path_factory.mktemp("sites")
    create_site(root / "bare", "alder", "127.0.0.1:1")
    shutil.copytree(root / "bare", root / "granted")
    config = load(SiteConfig, root / "granted" / "site.toml")
    books = accounts.of(config, SiteStore(config.paths.database), lambda: NOW)
    for account in ("training", "holdout"):
        books.grant(account, 2.0, 1e-5)
    return root


class Officer:
    """Types commands at one site."""

    def __init__(
        self, made: Path, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.root, self._made, self._capsys, self._monkeypatch = root, made, capsys, monkeypatch
        shutil.copytree(made / "bare", root / "alder")
        self.config = load(SiteConfig, root / "alder" / "site.toml")

    def __call__(self, *arguments: object, code: int = 0, anywhere: bool = False) -> str:
        where = () if anywhere else ("--config", str(self.root / "alder" / "site.toml"))
        self._monkeypatch.setattr(sys, "argv", ["haemfed", "budget", *map(str, arguments), *where])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        spoken = self._capsys.readouterr()
        assert ended.value.code == code, spoken
        assert "Traceback" not in spoken.err
        return spoken.err if code else spoken.out

    def granted(self) -> Officer:
        shutil.rmtree(self.root / "alder")
        shutil.copytree(self._made / "granted", self.root / "alder")
        return self

    def books(self) -> accounts.Accounts:
        return accounts.of(self.config, SiteStore(self.config.paths.database), lambda: NOW)

    def statement(self) -> Statement:
        return self.books().statement("alder")

    def edit(self, *statements: str) -> None:
        connection = sqlite3.connect(self.config.paths.database)
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()


@pytest.fixture
def officer(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Officer:
    monkeypatch.setattr(terminal.out, "width", 300)
    monkeypatch.setattr(terminal.err, "width", 600)
    monkeypatch.setattr(options, "now", lambda: NOW)
    return Officer(made, tmp_path, capsys, monkeypatch)


@pytest.fixture(scope="module")
def exported(made: Path) -> list[str]:
    """The lines of a file with three grants."""
    config = load(SiteConfig, made / "granted" / "site.toml")
    entries = [*accounts.of(config, SiteStore(config.paths.database), lambda: NOW).history]
    entries.append(append(entries, "grant", Grant(Account.TRAINING, 3.0, 1e-5).body(), entries[-1].at))
    document = export(tuple(entries), fold(entries), "alder", load_identity(config.paths.identity))
    return document.decode().splitlines()


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    study, _ = drafted()
    (tmp_path / "study.json").write_bytes(SignedStudy(study).to_json())
    return tmp_path / "study.json"


def test_a_budget_from_grant_to_show(officer: Officer) -> None:
    said = officer("grant", "training", "--epsilon", 2, "--study-epsilon", 1.5, "--year-epsilon", 1.8)
    assert said == "alder: granted ε = 2 at δ = 1e-05 (GDP) to the training account\n"
    assert "RDP at order 16" in officer("grant", "holdout", "--epsilon", 3, "--kind", "RDP", "--order", 16)
    shown = officer("show")
    assert "one run may take ε = 1.5" in shown
    assert "training: yearly limit, no year is open" in shown
    assert officer("open-year", 2026) == "alder: the year 2026 is open\n"
    shown = officer("show")
    assert "training: yearly limit, ε = 0.000 of 1.8 in 2026" in shown
    assert "RDP at order 16" in shown
    assert "4 entries" not in shown
    assert "3 entries, chain intact" in officer("verify")


WRONG = [
    (("grant", "training", "--epsilon", 0), "0 < epsilon"),
    (("grant", "training", "--epsilon", -1), "0 < epsilon"),
    (("grant", "training", "--epsilon", "nan"), "0 < epsilon"),
    (("grant", "training", "--epsilon", 1, "--delta", 1), "delta < 1"),
    (("grant", "training", "--epsilon", 1, "--delta", 0), "delta < 1"),
    (("grant", "aml-cohort", "--epsilon", 1), "training and holdout, for all its tables together"),
    (("grant", "training", "--epsilon", 3, "--delta", 1e-6), "since its first grant"),
    (("grant", "training", "--epsilon", 3, "--kind", "RDP", "--order", 16), "since its first grant"),
    (("grant", "training", "--epsilon", 3, "--kind", "RDP"), "whole number 2"),
    (("grant", "training", "--epsilon", 3, "--study-epsilon", 4), "not above the budget itself"),
    (("open-year", 2027), "2027 has not begun"),
    (("what-if", "--multiplier", 0, "--uploads", 3), "--multiplier above 0"),
    (("what-if", "--multiplier", 3), "--uploads of at least 1"),
    (("what-if", "--multiplier", 3, "--uploads", 1, "--kind", "secrets"), "not on the list"),
    (("recover",), "nothing to recover"),
]


def test_what_the_officer_can_get_wrong(officer: Officer) -> None:
    before = officer.granted().books().head
    for arguments, says in WRONG:
        assert says in officer(*arguments, code=10)
    assert officer.books().head == before


def test_what_if_of_a_study_and_of_numbers(officer: Officer, study_file: Path) -> None:
    assert "nothing was granted to the training account" in officer("what-if", study_file)
    officer.granted()
    rows = {row.split("│")[1].strip(): row for row in officer("what-if", study_file).splitlines() if "│" in row}
    assert "yes" in rows["training"]
    assert "2.000" in rows["training"]
    said = officer("what-if", "--multiplier", 1.0, "--uploads", 3)
    assert "no" in said
    assert "training: it needs ε = " in said
    assert "BudgetExceeded" not in said
    assert "Poisson" in officer("what-if", "--multiplier", 9, "--uploads", 3, "--sampling-probability", 0.1)
    assert "not both" in officer("what-if", study_file, "--uploads", 3, code=10)
    assert officer.books().entries == 2


def test_what_if_of_a_study_without_noise(officer: Officer, tmp_path: Path) -> None:
    study, _ = drafted()
    terms = msgspec.structs.replace(study.privacy, noise=Noise.NONE)
    state = officer.granted().books().state

    assert [view.total for view in of_study(state, msgspec.structs.replace(study, privacy=terms))] == [math.inf] * 2


def test_a_recovery_that_is_not_needed_leaves_a_running_study_alone(officer: Officer, study_file: Path) -> None:
    officer.granted()
    study = studies.parse(study_file.read_bytes(), "study.json").study
    books = officer.books()
    books.approve(study)
    books.open(study)
    keys = officer.config.paths.session(study.run_id)
    keys.write_bytes(b"keys")

    assert "nothing to recover" in officer("recover", code=10)
    assert keys.exists()
    officer.config.anchor_file.unlink()
    assert "open runs closed: 1" in officer("recover")
    assert not keys.exists()
    assert officer.books().outcome(study.run_id) == "stopped: the ledger was recovered"


def test_what_if_after_a_study_took_its_part(officer: Officer, study_file: Path) -> None:
    officer.granted()
    study = studies.parse(study_file.read_bytes(), "study.json").study
    books = officer.books()
    books.approve(study)
    books.open(study)

    said = officer("what-if", "--multiplier", 30, "--uploads", 10)
    assert "the account would stand at" in said
    assert "1 runs are open" in officer("show")


def test_an_exported_ledger_is_verified_anywhere(officer: Officer, tmp_path: Path) -> None:
    officer.granted()
    target = tmp_path / "ledger.jsonl"
    assert "2 entries written" in officer("export", target)
    assert target.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(officer.root / "alder")  # no site, no database, no key

    said = officer("verify", target, anywhere=True)

    assert "alder: 2 entries" in said
    assert "chain intact" in said
    assert "signed by " in said
    assert "2.000" in said
    lines = target.read_text().splitlines()
    assert [Entry.from_json(line).kind for line in lines[1:]] == ["grant", "grant"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda lines: [*lines[:2], lines[2].replace('"2.0"', '"9.0"'), *lines[3:]], "line 3: its content does not"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2: it does not continue"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3: it does not continue"),
        (lambda lines: lines[:-1], "line 3 is not the last"),
        (lambda lines: lines[:1], "line 1 is not the last"),
        (lambda lines: lines[1:], "line 1: not a ledger"),
        (lambda lines: [], "line 1: damaged"),
        (lambda lines: [*lines[:3], lines[3][:-5]], "line 4: a line of the ledger is not JSON"),
        (lambda lines: [*lines, lines[-1]], "line 5: it does not continue"),
        (lambda lines: [lines[0].replace("alder", "birch"), *lines[1:]], "line 1: not signed"),
        (lambda lines: [lines[0].replace('"signature": "', '"signature": "!'), *lines[1:]], "line 1: damaged"),
    ],
)
def test_a_damaged_file_names_its_line(exported: list[str], damage: object, says: str) -> None:
    lines = damage(exported)  # type: ignore[operator]
    with pytest.raises(StorageProblem, match=f"^ledger.jsonl: {re.escape(says)}"):
        verify_file("".join(f"{line}\n" for line in lines).encode(), "ledger.jsonl")


def test_a_damaged_file_has_its_own_exit_code(officer: Officer, exported: list[str], tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text("\n".join(exported[:-1]))
    assert "ledger.jsonl: line 3 is not the last" in officer(
        "verify", tmp_path / "ledger.jsonl", code=19, anywhere=True
    )


def test_a_file_put_together_with_right_hashes_is_not_signed(officer: Officer, tmp_path: Path) -> None:
    officer.granted()
    officer("export", tmp_path / "ledger.jsonl")
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    header = json.loads(lines[0])
    said = json.loads(header["statement"]) | {"committed": {"holdout": "0", "training": "1"}}
    header["statement"] = json.dumps(said, sort_keys=True, separators=(",", ":"))
    (tmp_path / "ledger.jsonl").write_text("\n".join([json.dumps(header), *lines[1:]]))

    assert "the file was edited" in officer("verify", tmp_path / "ledger.jsonl", code=19, anywhere=True)


@pytest.mark.parametrize(("share", "sound"), [(1 - 1e-6, True), (0.5, False)])
def test_a_file_with_costs_that_are_too_low(officer: Officer, share: float, sound: bool) -> None:
    """With right hashes and a right signature; a trifle is another version's rounding."""
    entries = list(officer.granted().books().history)
    event = GaussianEvent("gradient", 20.0, Account.TRAINING)
    item = Reserve("5e" * 32, "ab", (Stage(event, 5, int(event.units * share)),))
    draft = Entry(2, entries[-1].hash, item.KIND, item.body(), entries[-1].at, "")
    entries.append(replace(draft, hash=draft.computed_hash()))
    document = export(tuple(entries), fold(entries), "alder", load_identity(officer.config.paths.identity))

    if sound:
        assert verify_file(document, "ledger.jsonl").entries == 3
    else:
        with pytest.raises(StorageProblem, match=r"line 4: an upload of gradient is charged .* no honest site wrote"):
            verify_file(document, "ledger.jsonl")


def test_export_to_standard_output(officer: Officer) -> None:
    document = officer.granted()("export", "-")
    assert verify_file(document.encode(), "-").entries == 2


def test_an_edited_and_a_truncated_ledger(officer: Officer) -> None:
    officer.granted()
    officer.edit("UPDATE ledger SET body = replace(body, '2.0', '9.0') WHERE sequence = 1")
    for command in ("show", "verify"):
        assert "ledger entry 1: its content does not match its hash" in officer(command, code=19)
    officer.edit("DELETE FROM ledger WHERE sequence = 1")
    assert "ends at entry 0, and entry 1 was seen" in officer("show", code=19)


@pytest.mark.parametrize("body", ["nonsense", "5", "[]", "{}", "[" * 100_000])
def test_a_ledger_entry_that_is_no_object(officer: Officer, body: str) -> None:
    officer.granted().edit(f"UPDATE ledger SET body = '{body}' WHERE sequence = 1")  # noqa: S608 -- a literal of this file
    assert "ledger entry 1: its content" in officer("verify", code=19)


def test_two_processes_on_one_ledger(officer: Officer) -> None:
    officer.granted()
    with files.lock(officer.config.data_dir):
        assert "already in use by process" in officer("grant", "training", "--epsilon", 9, code=23)
        assert "already in use by process" in officer("recover", code=23)
        officer("show")  # reading beside the daemon is allowed
    assert officer.books().entries == 2


def test_a_clock_that_went_back_does_not_matter(officer: Officer, monkeypatch: pytest.MonkeyPatch) -> None:
    officer.granted()
    monkeypatch.setattr(options, "now", lambda: NOW - dt.timedelta(days=900))
    officer("open-year", 2026)  # the ledger's own time counts
    assert [entry.at for entry in officer.books().history] == [NOW.isoformat(timespec="microseconds")] * 3


def test_a_restored_site_recovers(officer: Officer, study_file: Path) -> None:
    """A backup from before a study: nothing works until a person recovers, and then all of the study is spent."""
    officer.granted()
    shutil.copytree(officer.config.data_dir, officer.root / "backup")
    study = studies.parse(study_file.read_bytes(), "study.json").study
    books = officer.books()
    books.approve(study)
    books.open(study)
    shutil.rmtree(officer.config.data_dir)
    shutil.copytree(officer.root / "backup", officer.config.data_dir)

    for command in (("show",), ("verify",), ("grant", "training", "--epsilon", 9)):
        assert "run: haemfed budget recover" in officer(*command, code=19)
    said = officer("recover")
    assert "recovered; entries that others have seen: 2; open runs closed: 0" in said
    assert "2.000" in said
    assert "every grant was cleared" in said
    assert "whose grant a recovery has cleared" in officer("what-if", "--multiplier", 50, "--uploads", 1)
    assert "taken over from witnesses" in officer("show")
    officer("grant", "training", "--epsilon", 2)
    assert "nothing to recover" in officer("recover", code=10)
    assert "no" in officer("what-if", "--multiplier", 50, "--uploads", 1)


def test_a_restored_machine_recovers_from_its_peers(officer: Officer, study_file: Path) -> None:
    """The anchor was restored too: what peers showed lies in rollback.json."""
    officer.granted()
    for name in ("data", "data.anchor"):
        source = officer.config.data_dir.with_name(name)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, officer.root / name)
    study = studies.parse(study_file.read_bytes(), "study.json").study
    books = officer.books()
    books.approve(study)
    books.open(study)
    seen = officer.statement()
    shutil.rmtree(officer.config.data_dir)
    shutil.copytree(officer.root / "data", officer.config.data_dir)
    shutil.copy2(officer.root / "data.anchor", officer.config.anchor_file)
    assert "nothing to recover" in officer("recover", code=10)
    signature = load_identity(officer.config.paths.identity).sign(STATEMENT, seen.encode())
    rollback.add(officer.config.data_dir / rollback.NAME, [Objected(seen, signature, ("birch",), type(None))])  # type: ignore[arg-type]

    assert "entries that others have seen: 1, 2" in officer("recover")

    assert not (officer.config.data_dir / rollback.NAME).exists()
    assert officer.statement().committed == seen.committed
    assert officer.books().state.open_runs() == ()


@pytest.mark.slow
def test_keys_of_lost_runs_are_erased(officer: Officer, study_file: Path) -> None:
    """The database came back from the backup, the session file of a later run is still there."""
    officer.granted()
    shutil.copytree(officer.config.data_dir, officer.root / "backup")
    study = studies.parse(study_file.read_bytes(), "study.json").study
    books = officer.books()
    books.approve(study)
    books.open(study)
    shutil.rmtree(officer.config.data_dir)
    shutil.copytree(officer.root / "backup", officer.config.data_dir)
    keys = officer.config.paths.session(study.run_id)
    keys.write_bytes(b"keys")

    officer("recover")

    assert not keys.exists()


@pytest.mark.slow
def test_an_account_that_was_granted_anew_in_another_way_can_be_given_up(officer: Officer) -> None:
    assert "nothing to recover" in officer("recover", "--exhaust", "training", code=10)
    assert "no account 'pocket'" in officer("recover", "--exhaust", "pocket", code=10)
    shutil.copytree(officer.config.data_dir, officer.root / "backup")
    officer("grant", "training", "--epsilon", 2)
    shutil.rmtree(officer.config.data_dir)
    shutil.copytree(officer.root / "backup", officer.config.data_dir)
    anchor = officer.config.anchor_file.read_bytes()
    officer.config.anchor_file.unlink()
    officer("grant", "training", "--epsilon", 2, "--delta", 1e-6)
    officer.config.anchor_file.write_bytes(anchor)

    said = officer("recover", code=10)
    assert "Restore the backup again, grant nothing" in said
    assert "the account can only be given up for ever: haemfed budget recover --exhaust ACCOUNT" in said
    assert "adds up in one way everywhere" in officer("recover", "--exhaust", "holdout", code=10)
    assert "training: given up; nothing can be reserved on it any more" in officer("recover", "--exhaust", "training")
    officer("grant", "training", "--epsilon", 5, "--delta", 1e-6)
    assert "which was given up" in officer("what-if", "--multiplier", 50, "--uploads", 1)
    assert "inf" in officer("show")


def test_a_lost_anchor(officer: Officer) -> None:
    officer.granted()
    officer.config.anchor_file.unlink()
    assert "data.anchor is missing" in officer("show", code=19)
    assert "entries that others have seen: none" in officer("recover")
    assert "3 entries" in officer("verify")
