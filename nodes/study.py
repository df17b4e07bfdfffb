"""The study: the one signed document of a job, and everything that follows from it without looking at a patient.

A study is valid when every site on it has signed its digest. The coordinator signs nothing: it relays the document and
adds numbers. What the lower rooms need is a *projection*: `manifest` for `secagg`, `stage_of` for the door; both carry
the study's digest, so two sites with different studies can never share a mask key.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import rfc8785

from dp.budget import epsilon_of
from dp.queries import Account, Query
from nodes.errors import NotInRoster, StudyInvalid
from secagg.encoding import enc
from secagg.errors import SecaggError
from secagg.keys import Identity, verify
from secagg.lanes import WIDE
from secagg.manifest import Manifest, Member, Mode

FORMAT = "haemfed/study/1"
_SIGNATURE_PURPOSE = "study"
_TAG_AND_CANARY = 2
_CLOSING_ROUNDS = 16  # round numbers in which no stage uploads: sites answer them with Complete
_LARGEST_DELTA = 1e-3
_FOR_EVER = 366 * 86400.0
_MAX_DOCUMENT = 64 * 1024 * 1024


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member: its place in the manifest, its name, its Ed25519 identity and what it declared about its size.

    Args:
        index: 1 to 255, without gaps.
        name: the certificate's common name.
        identity: base64 of the 32-byte Ed25519 public key.
        size_band: typed in by a person (for example "100-249"), never computed from a table.
    """

    index: int
    name: str
    identity: str
    size_band: str


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of query, how often it is summed, how often it may be uploaded, and with how much noise.

    A stage begins after the round whose sum ended the stage before it, and ends when its sums are there or `uploads`
    round numbers later: which query a round sums is a function of study, transcript and round number alone. The
    coordinator never names it, and no site can be asked for more uploads than it reserved.

    Args:
        kind: one of `dp.queries.KINDS`.
        account: the account that every upload charges.
        steps: completed sums wanted.
        uploads: uploads allowed, at least `steps`; the reservation and the noise are calibrated to this number.
        length: coordinates of one vector.
        sensitivity: L2 bound of one patient's contribution.
        multiplier: standard deviation of the honest noise over `sensitivity`.
    """

    kind: str
    account: str
    steps: int
    uploads: int
    length: int
    sensitivity: float
    multiplier: float

    @property
    def mu_squared(self) -> float:
        """Privacy cost μ² of all uploads of this stage together."""
        return self.uploads / self.multiplier**2


class Learning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is learned: all fields of a preset, the columns in order, and the initial weights as bytes (base64)."""

    preset: Mapping[str, Any]
    features: tuple[str, ...]
    weights: str


class Privacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The totals that the stages were calibrated to, and who they hold against.

    Args:
        epsilon: total for a training patient, add-or-remove-one, against the coordinator and `collusion` sites.
        delta: its δ.
        holdout_epsilon: total for a holdout patient.
        holdout_delta: its δ.
        collusion: sites whose noise is not counted on.
        patient_cap: public cap on the patients of one site.
    """

    epsilon: float
    delta: float
    holdout_epsilon: float
    holdout_delta: float
    collusion: int
    patient_cap: int


class Federation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the sites meet.

    Args:
        minimum_roster: fewest sites in a round.
        roster_changes: how often the roster may change.
        deadline_seconds: a site that has not uploaded by then is missing.
        patience_seconds: how long the coordinator waits for a minimum roster before it stops the study.
        mode: A: a round opens only if everybody asked has uploaded. B: it opens without those who dropped out, at the
            price of more noise and two more messages.
        lane_bits: width of a coordinate inside a 64-bit word.
    """

    minimum_roster: int
    roster_changes: int
    deadline_seconds: float
    patience_seconds: float
    mode: Mode = Mode.A
    lane_bits: int = WIDE


class Study(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole document. Every field is public; none was computed from a patient's data."""

    format: str
    name: str
    purpose: str
    profile: str
    profile_digest: str
    run_number: int
    not_after: str
    sites: tuple[Site, ...]
    learning: Learning
    privacy: Privacy
    federation: Federation
    stages: tuple[Stage, ...]

    def digest(self) -> bytes:
        """SHA-256 of the canonical JSON (RFC 8785) under the study's label."""
        return hashlib.sha256(enc("haemfed/study/v1", rfc8785.dumps(msgspec.to_builtins(self)))).digest()

    @property
    def run_id(self) -> bytes:
        """Identifies one run: a used run is refused for ever, another attempt needs another run number."""
        return hashlib.sha256(enc("haemfed/run/v1", self.digest(), self.run_number)).digest()

    @property
    def weights(self) -> bytes:
        """Initial weights, float64 little-endian."""
        return base64.b64decode(self.learning.weights, validate=True)

    def site(self, name: str) -> Site:
        """Return the member called `name`.

        Raises:
            NotInRoster: the study does not list it.
        """
        for site in self.sites:
            if site.name == name:
                return site
        listed = ", ".join(site.name for site in self.sites)
        raise NotInRoster(f"site {name!r} is not on study {self.name!r} (its sites: {listed}); ask for one with it")

    def identities(self) -> tuple[bytes, ...]:
        """Ed25519 public keys of all sites, in order."""
        return tuple(base64.b64decode(site.identity) for site in self.sites)

    def manifest(self) -> Manifest:
        """What `secagg` sees of the study.

        Raises:
            StudyInvalid: the roster rules of the protocol do not hold.
        """
        try:
            return Manifest(
                run_id=self.run_id,
                study_digest=self.digest(),
                members=tuple(Member(site.index, site.name, base64.b64decode(site.identity)) for site in self.sites),
                collusion=self.privacy.collusion,
                minimum_roster=self.federation.minimum_roster,
                roster_changes=self.federation.roster_changes,
                max_rounds=sum(stage.uploads for stage in self.stages) + _CLOSING_ROUNDS,
                mode=self.federation.mode,
                lane_bits=self.federation.lane_bits,
            )
        except (SecaggError, binascii.Error) as error:
            raise StudyInvalid(f"study {self.name!r} cannot be run: {error}") from error

    @property
    def survivors_needed(self) -> int:
        """Mode B: how many sites must survive a round for its sum to open (t of `secagg`); no roster may be smaller."""
        everybody = msgspec.structs.replace(self.federation, minimum_roster=len(self.sites))
        return msgspec.structs.replace(self, federation=everybody).manifest().threshold

    @property
    def fewest_in_a_sum(self) -> int:
        """Fewest sites whose uploads a sum can hold: in mode B survivors, of a roster that may be larger."""
        return self.federation.minimum_roster if self.federation.mode is Mode.A else self.survivors_needed

    @property
    def max_words(self) -> int:
        """The longest vector of the study in 64-bit words, tag and canary included."""
        return max(stage.length for stage in self.stages) + _TAG_AND_CANARY

    def stage_of(self, query: Query) -> Stage:
        """Return the stage that `query` belongs to.

        Raises:
            StudyInvalid: nothing like it stands in the study: the door refuses it.
        """
        for stage in self.stages:
            if stage.kind == query.kind:
                cap = self.privacy.patient_cap
                wanted = (stage.account, stage.length, stage.sensitivity, stage.multiplier, cap)
                asked = (query.account, query.length, query.sensitivity, query.multiplier, query.patient_cap)
                if wanted == asked and 0 <= query.index < stage.steps:
                    return stage
                break
        raise StudyInvalid(f"query {query.kind!r} number {query.index} is not the one that study {self.name!r} signed")

    def mu_squared(self, account: Account) -> float:
        """Whole cost μ² of the study on one account, if every allowed upload is made."""
        return sum(stage.mu_squared for stage in self.stages if stage.account == account)


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One site's signature (base64) over the study's digest."""

    site: str
    signature: str


class SignedStudy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A study and the signatures collected so far."""

    study: Study
    signatures: tuple[Signature, ...] = ()

    def to_json(self) -> bytes:
        """Canonical JSON, ready to be written to a file."""
        return rfc8785.dumps(msgspec.to_builtins(self))


def parse(document: bytes, source: str) -> SignedStudy:
    """Read a study document.

    Args:
        document: JSON, at most 64 MiB.
        source: what to call it in an error (a file name).

    Raises:
        StudyInvalid: not a study of this format, or it contradicts itself; names the field.
    """
    again = "ask the coordinator for the file again"
    if len(document) > _MAX_DOCUMENT:
        raise StudyInvalid(f"{source}: larger than {_MAX_DOCUMENT} bytes, not a study; {again}")
    try:
        signed = msgspec.json.decode(document, type=SignedStudy)
    except msgspec.DecodeError as error:
        raise StudyInvalid(f"{source}: not a study document ({error}); {again}") from error
    if signed.study.format != FORMAT:
        raise StudyInvalid(f"{source}: study format {signed.study.format!r}, this version reads {FORMAT!r}")
    _check(signed.study, source)
    return signed


def _check(study: Study, source: str) -> None:
    """Everything that can be seen without running it; what follows from the model is `nodes.protocol.check_plan`'s."""
    for problem in (*_terms_problems(study), *_stage_problems(study)):
        raise StudyInvalid(f"{source}: {problem}; ask its author for another one")


def _terms_problems(study: Study) -> Iterator[str]:
    try:
        offset = dt.datetime.fromisoformat(study.not_after).utcoffset()
    except ValueError:
        offset = None
    if offset is None:
        yield "not_after must be an ISO 8601 time with a time zone"
    federation, privacy = study.federation, study.privacy
    if federation.lane_bits != WIDE:
        yield (
            f"lane_bits {federation.lane_bits}: narrow lanes are accounted in RDP, and this version's budgets are GDP; "
            f"only {WIDE} can be charged to them"
        )
    if federation.mode is Mode.B and federation.minimum_roster < (needed := study.survivors_needed):
        yield (
            f"minimum_roster {federation.minimum_roster} is too small for mode B: a sum opens only if {needed} of the "
            f"{len(study.sites)} sites survive the round, so that fewer must not even be asked"
        )
    if not (0 < federation.deadline_seconds < _FOR_EVER and 0 < federation.patience_seconds < _FOR_EVER):
        yield "deadline_seconds and patience_seconds must be positive, at most a year"
    for name, value in (("delta", privacy.delta), ("holdout_delta", privacy.holdout_delta)):
        if not 0 < value <= _LARGEST_DELTA:
            yield f"{name} must be above 0 and at most {_LARGEST_DELTA:g}"


def _stage_problems(study: Study) -> Iterator[str]:
    kinds = [stage.kind for stage in study.stages]
    if len(set(kinds)) != len(kinds) or not kinds:
        yield f"stages must be listed once each, found {kinds}"
    for stage in study.stages:
        if stage.account not in [account.value for account in Account]:
            yield f"stage {stage.kind!r} charges an account {stage.account!r} that does not exist"
        if not 0 < stage.steps <= stage.uploads:
            yield f"stage {stage.kind!r} needs at least one step and no fewer uploads than steps"
        if not (stage.multiplier > 0 and stage.sensitivity > 0 and stage.length > 0):
            yield f"stage {stage.kind!r} has no noise, no bound or no length"
            return  # its cost cannot be computed
    declared = {
        Account.TRAINING: (study.privacy.epsilon, study.privacy.delta),
        Account.HOLDOUT: (study.privacy.holdout_epsilon, study.privacy.holdout_delta),
    }
    for account, (epsilon, delta) in declared.items():
        real = epsilon_of(study.mu_squared(account), delta) if 0 < delta < 1 else math.inf
        if real > epsilon * (1 + 1e-6):
            yield f"it declares ε = {epsilon:g} for a {account.value} patient, its stages add up to {real:.4g}"


def sign(signed: SignedStudy, site: str, identity: Identity) -> SignedStudy:
    """Add (or replace) one site's signature.

    Raises:
        NotInRoster: the study does not list the site, or lists another key for it.
    """
    member = signed.study.site(site)
    if base64.b64decode(member.identity) != identity.public:
        raise NotInRoster(
            f"study {signed.study.name!r} lists another identity key for {site!r}; compare fingerprints with its author"
        )
    signature = identity.sign(_SIGNATURE_PURPOSE, signed.study.digest())
    others = tuple(entry for entry in signed.signatures if entry.site != site)
    return SignedStudy(signed.study, (*others, Signature(site, base64.b64encode(signature).decode())))


def merge(documents: Sequence[SignedStudy]) -> SignedStudy:
    """Join copies of one study that different sites have signed.

    Raises:
        StudyInvalid: the copies are not the same study.
    """
    study = documents[0].study
    signatures: dict[str, Signature] = {}
    for document in documents:
        if document.study.digest() != study.digest():
            raise StudyInvalid(
                f"copies of study {study.name!r} differ: some site signed another document; start from one copy"
            )
        signatures.update({entry.site: entry for entry in document.signatures})
    return SignedStudy(study, tuple(signatures[name] for name in sorted(signatures)))


def validate(signed: SignedStudy, source: str) -> Study:
    """Return the study if every site on it has signed exactly this document.

    Raises:
        StudyInvalid: a signature is missing or does not fit: the document was edited after signing.
    """
    study = signed.study
    given = {entry.site: entry.signature for entry in signed.signatures}
    for site in study.sites:
        if site.name not in given:
            raise StudyInvalid(f"{source}: not signed by {site.name!r}; every site on it must run `haemfed study sign`")
        try:
            verify(
                base64.b64decode(site.identity, validate=True),
                base64.b64decode(given[site.name], validate=True),
                site.name,
                _SIGNATURE_PURPOSE,
                study.digest(),
            )
        except (SecaggError, binascii.Error) as error:
            raise StudyInvalid(
                f"{source}: the signature of {site.name!r} does not fit: the study was edited after signing or signed "
                "with another key; get the original and sign it again"
            ) from error
    return study


def require_current(study: Study, now: dt.datetime) -> None:
    """Refuse to sign or to begin a study after its date; one that has begun may end, and be certified.

    Raises:
        StudyInvalid: it has expired.
    """
    if now > dt.datetime.fromisoformat(study.not_after):
        raise StudyInvalid(f"study {study.name!r} expired on {study.not_after}; ask for a new study")
