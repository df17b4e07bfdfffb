"""Whether a model may be used at this site: not if its audit failed, if a site withheld it, or if it was retired.

| beside the file, or in one of this site's runs        | use                                          |
|-------------------------------------------------------|----------------------------------------------|
| a note that it was retired                            | refused, with date and reason                |
| certificate: FAIL(…) or WITHHELD                      | refused                                      |
| certificate that cannot be read, or of another file   | refused: a seal is not broken by damaging it |
| certificate: INCONCLUSIVE; expired; none              | allowed, and said                            |
| certificate: PASS                                     | allowed                                      |

Other runs of this site are looked through by the model's digest, so that a copy of a sealed model is sealed, too.
Signatures are not checked here (`haemfed audit verify` does): whoever can forge a certificate in this folder can remove
it as well. What counts is that nobody uses a failed model without knowing.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import rfc8785

from models.errors import OtherKind
from nodes import files
from nodes.errors import ConfigError, Sealed

__all__ = ["Opened", "Retirement", "check", "found", "opened", "retire", "retirement"]

LONGEST_REASON: Final = 500
_FORMAT: Final = "haemfed/retired/1"
_SUFFIX: Final = ".retired.json"
_FEWEST: Final = 4  # characters that name a run
# As in `nodes.reporting` and `nodes.results`, which load torch; a test compares them.
CERTIFICATE: Final = "certificate.dsse.json"
MODEL: Final = "model.safetensors"


class Retirement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A site's decision that a model is not used any more.

    Args:
        format: "haemfed/retired/1".
        model: digest of its weights, hex.
        retired: ISO date.
        reason: in the words of whoever decided.
    """

    format: str
    model: str
    retired: str
    reason: str


@dataclass(frozen=True)
class Opened:
    """A model file that was read.

    Args:
        path: where it lies.
        sha256: of its bytes, hex.
        digest: of the model in it, hex.
    """

    path: Path
    sha256: str
    digest: str


class _Envelope(msgspec.Struct):
    """What is read of a DSSE envelope; the structures below it are parts of `audits.certificate.Statement`."""

    payload: str


class _Facts(msgspec.Struct):
    model_digest: str


class _Verdict(msgspec.Struct):
    outcome: str


class _Predicate(msgspec.Struct):
    facts: _Facts
    verdict: _Verdict
    issued: str
    expires: str


class _Subject(msgspec.Struct):
    digest: dict[str, str]


class _Statement(msgspec.Struct):
    subject: list[_Subject]
    predicate: _Predicate


def opened(path: Path, data: bytes) -> Opened:
    """Look into a model file of either kind.

    Raises:
        ArtefactError: neither a survival model nor a generator.
    """
    from models import artefact  # noqa: PLC0415 - the command line is quick without it
    from models.generators import file  # noqa: PLC0415

    try:
        digest = artefact.from_bytes(data)[0].digest
    except OtherKind:
        digest = file.from_bytes(data)[0].digest
    return Opened(path, hashlib.sha256(data).hexdigest(), digest)


def check(model: Opened, runs: Path | None, today: dt.date) -> tuple[str, ...]:
    """Refuse a sealed model; return what must be said about any other.

    Args:
        model: the file.
        runs: folder of this site's runs; None where there is no site.
        today: decides whether a certificate has expired.

    Raises:
        Sealed: its audit failed, it was withheld or retired.
        StorageProblem: a certificate or note is there and cannot be read from the disk.
    """
    folders = _folders(model.path, runs)
    for folder in folders:
        for note in sorted(folder.glob(f"*{_SUFFIX}")):
            _not_retired(note, model)
    said: dict[str, None] = {}
    certified = False
    for folder in folders:
        path = folder / CERTIFICATE
        if not path.exists():
            continue
        statement = _statement(path, beside=folder == folders[0])
        if statement is None or not _about(statement, model, beside=folder == folders[0]):
            continue
        notices = dict.fromkeys(_notices(statement, today))  # a sealed model is sealed in any file
        if _of_file(statement, model):
            certified = True
            said |= notices
    if not certified:
        return ("not certified: no audit of this model is known here",)
    return tuple(said)


def retire(path: Path, digest: str, reason: str, today: dt.date) -> tuple[Retirement, bool]:
    """Write beside a model file that it is not to be used any more; what was written before stays.

    Args:
        path: the model file.
        digest: of the model in it.
        reason: one line.
        today: date of the decision.

    Returns:
        the note, and whether it is new.

    Raises:
        ConfigError: the reason is empty, longer than `LONGEST_REASON` or no line of text.
        StorageProblem: it cannot be written.
    """
    reason = reason.strip()
    if not 1 <= len(reason) <= LONGEST_REASON or not reason.isprintable():
        raise ConfigError(f"--reason is one line of text of at most {LONGEST_REASON} characters")
    note = path.with_name(path.name + _SUFFIX)
    if note.exists():
        known = _note(note)
        if known.model == digest:
            return known, False
    new = Retirement(_FORMAT, digest, today.isoformat(), reason)
    files.write(note, rfc8785.dumps(msgspec.to_builtins(new)))
    return new, True


def retirement(model: Opened, runs: Path | None) -> Retirement | None:
    """The note that retired a model; None if nobody did.

    Raises:
        Sealed: a note that cannot be read.
    """
    for folder in _folders(model.path, runs):
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            if (note := _note(path)).model == model.digest:
                return note
    return None


def found(named: str, runs: Path | None) -> Path:
    """The model file that a person means: a file, the folder of a run, or the first characters of a run's number.

    Raises:
        ConfigError: no file, no run or several.
    """
    path = Path(named)
    if path.is_file():
        return path
    if path.is_dir():
        return _model_in(path)
    if runs is None or len(named) < _FEWEST or not named.isalnum():
        raise ConfigError(f"{named}: no such file; name a model file, or the first characters of a run of this site")
    matching = sorted(folder for folder in _runs(runs) if folder.name.startswith(named.lower()))
    if len(matching) != 1:
        many = f"{len(matching)} runs" if matching else "no run"
        raise ConfigError(f"{named}: {many} of this site begin like that; see {runs}")
    return _model_in(matching[0])


def _model_in(folder: Path) -> Path:
    if not (folder / MODEL).is_file():
        raise ConfigError(f"{folder}: holds no {MODEL}; name the model file itself")
    return folder / MODEL


def _folders(path: Path, runs: Path | None) -> list[Path]:
    """The file's own folder first, then those of this site's runs."""
    own = path.resolve().parent
    return [own, *(folder for folder in _runs(runs) if folder.resolve() != own)]


def _runs(runs: Path | None) -> Iterator[Path]:
    if runs is not None and runs.is_dir():
        yield from sorted(folder for folder in runs.iterdir() if folder.is_dir())


def _not_retired(path: Path, model: Opened) -> None:
    note = _note(path)
    if note.model == model.digest:
        raise Sealed(f"{model.path}: retired on {note.retired}: {note.reason}")


def _note(path: Path) -> Retirement:
    try:
        note = msgspec.json.decode(files.read(path, limit=1 << 16), type=Retirement)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        note = None
    if note is None or note.format != _FORMAT:
        raise Sealed(
            f"{path}: a note that a model was retired, and it cannot be read; restore it, or remove it knowingly"
        )
    return note


def _statement(path: Path, *, beside: bool) -> _Statement | None:
    """What a certificate says; None if it cannot be read and lies elsewhere than beside the file."""
    try:
        envelope = msgspec.json.decode(files.read(path, limit=1 << 20), type=_Envelope)
        return msgspec.json.decode(base64.b64decode(envelope.payload, validate=True), type=_Statement)
    except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError) as error:
        if beside:
            raise Sealed(
                f"{path}: the certificate beside the model cannot be read; restore it from its backup"
            ) from error
        return None


def _of_file(statement: _Statement, model: Opened) -> bool:
    return any(subject.digest.get("sha256") == model.sha256 for subject in statement.subject)


def _about(statement: _Statement, model: Opened, *, beside: bool) -> bool:
    """Whether a certificate speaks of this file or of its weights; beside the file it must be of the very file."""
    same = _of_file(statement, model) or statement.predicate.facts.model_digest == model.digest
    if beside and not _of_file(statement, model):
        raise Sealed(
            f"{model.path}: the certificate beside it is of another file; put the certified model back, or move this "
            "one into a folder of its own"
        )
    return same


def _notices(statement: _Statement, today: dt.date) -> Iterator[str]:
    predicate = statement.predicate
    match predicate.verdict.outcome:
        case "PASS":
            if predicate.expires < today.isoformat():
                yield f"its certificate of {predicate.issued} expired on {predicate.expires}"
        case "INCONCLUSIVE":
            yield f"audited on {predicate.issued}, INCONCLUSIVE: not every check could be decided; this is not a pass"
        case outcome:
            raise Sealed(
                f"this model is sealed: its certificate of {predicate.issued} says {outcome}; the DPO report says why"
            )
