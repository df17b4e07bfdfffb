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
from collections.abc import Sequence

import msgspec
import rfc8785

from dp.budget import BudgetKind, Filter
from dp.events import Event, NarrowEvent, event
from dp.queries import Account, Query
from models.algorithms.protection import KIND_OF, LOCKSTEP, UPDATE, WORDS
from nodes.consistency import problems
from nodes.document import (
    FORMAT,
    PROTECTION,
    WITHOUT_NOISE,
    Federation,
    Imputing,
    Learning,
    Privacy,
    Search,
    Site,
    Stage,
)
from nodes.errors import NotInRoster, StudyInvalid
from nodes.grids import narrow_variance
from secagg.encoding import enc
from secagg.errors import SecaggError
from secagg.keys import Identity, verify
from secagg.lanes import WIDE, word_count
from secagg.manifest import Manifest, Member, Mode, Noise

__all__ = [
    "FORMAT",
    "PROTECTION",
    "WITHOUT_NOISE",
    "Federation",
    "Imputing",
    "Learning",
    "Privacy",
    "Search",
    "Signature",
    "SignedStudy",
    "Site",
    "Stage",
    "Study",
    "merge",
    "parse",
    "require_current",
    "sign",
    "validate",
]

_SIGNATURE_PURPOSE = "study"
_TAG_AND_CANARY = 2
_CLOSING_ROUNDS = 16  # round numbers in which no stage uploads: sites answer them with Complete
_MAX_DOCUMENT = 64 * 1024 * 1024


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
                noise=self.privacy.noise,
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
        longest = max(stage.length for stage in self.stages)
        return word_count(longest, self.federation.lane_bits) + _TAG_AND_CANARY

    def stage_of(self, query: Query) -> Stage:
        """Return the stage that `query` belongs to.

        Raises:
            StudyInvalid: nothing like it stands in the study: the door refuses it.
        """
        for stage in self.stages:
            if stage.kind == query.kind:
                cap, q = self.privacy.patient_cap, stage.sampling_probability
                wanted = (stage.account, stage.length, stage.sensitivity, stage.query_multiplier, q, cap)
                asked = (
                    query.account,
                    query.length,
                    query.sensitivity,
                    query.multiplier,
                    query.sampling_probability,
                    query.patient_cap,
                )
                if wanted == asked and 0 <= query.index < stage.steps:
                    return stage
                break
        raise StudyInvalid(f"query {query.kind!r} number {query.index} is not the one that study {self.name!r} signed")

    def delta(self, account: Account) -> float:
        """The δ that the study states for an account."""
        return self.privacy.delta if account is Account.TRAINING else self.privacy.holdout_delta

    def filter(self, account: Account) -> Filter:
        """What its budget must add up: the kind, and for RDP the order. Both accounts pay in one kind."""
        del account
        return Filter(BudgetKind(self.privacy.budget), self.privacy.order)

    def event(self, stage: Stage) -> Event:
        """What one upload of a stage costs, whatever the roster.

        In narrow lanes it names the *smallest* variance of honest noise that any roster of the study gives: the cost
        falls with it.

        Raises:
            StudyInvalid: a study without noise charges nothing.
            ConfigError, LaneOverflow: the stage does not fit its lanes.
        """
        if self.privacy.noise is Noise.NONE:
            raise StudyInvalid(f"study {self.name!r} has no noise: its uploads cost no ε, because none bounds them")
        if self.federation.lane_bits == WIDE:
            return event(stage.kind, stage.multiplier, sampling_probability=stage.sampling_probability)
        cap, multiplier = self.privacy.patient_cap, stage.multiplier
        variance = narrow_variance(self.manifest(), stage.length, cap, multiplier)
        return NarrowEvent(stage.kind, multiplier, variance, stage.length, Account(stage.account))

    def charges(self, account: Account) -> tuple[tuple[Event, int], ...]:
        """Every upload that the study may make on an account: (event, how many). Nothing without noise."""
        if self.privacy.noise is Noise.NONE:
            return ()
        return tuple((self.event(stage), stage.uploads) for stage in self.stages if stage.account == account)

    def units(self, account: Account) -> int:
        """Whole cost on one account in units of its filter, if every allowed upload is made; 0 without noise.

        Raises:
            BudgetOfAnotherKind: the declared kind of budget cannot hold a stage.
        """
        of = self.filter(account)
        return sum(uploads * of.units(each) for each, uploads in self.charges(account))

    def epsilon(self, account: Account) -> float:
        """ε of all allowed uploads at the account's δ, by the budget's filter; infinite without noise."""
        return self.epsilon_of(account, self.units(account))

    def epsilon_of(self, account: Account, units: int) -> float:
        """ε of uploads that cost so many units; infinite without noise."""
        if self.privacy.noise is Noise.NONE:
            return math.inf
        return self.filter(account).epsilon(units, self.delta(account)) if units else 0.0

    @property
    def protection(self) -> str:
        """What the noise is, in words that every artefact of the study repeats."""
        inside = self.privacy.noise is Noise.LOCAL and self.training_kind == UPDATE
        return PROTECTION[self.privacy.noise] + (f"; {WORDS[Noise.LOCAL]}" if inside else "")

    @property
    def training_kind(self) -> str:
        """Kind of the sums that train a survival model."""
        return KIND_OF[(self.learning.algorithm or {}).get("name", LOCKSTEP)]

    def mu_squared(self, account: Account) -> float:
        """Whole cost μ² on one account, if every allowed upload is made.

        Raises:
            StudyInvalid: its budget is not of the kind GDP: there is no such number.
        """
        if self.privacy.budget != BudgetKind.GDP or self.privacy.noise is Noise.NONE:
            raise StudyInvalid(f"study {self.name!r} is not accounted in μ²")
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
    for problem in problems(signed.study):
        raise StudyInvalid(f"{source}: {problem}; ask its author for another one")
    return signed


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
