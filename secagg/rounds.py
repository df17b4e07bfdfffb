"""One round at a site, up to its upload, and the check of any round's sum: pure functions that the client drives."""

import hmac
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, TypeAlias

import numpy as np

from secagg import lanes, masks
from secagg.context import Context, check_roster
from secagg.errors import ForgedSum, MisuseError, RosterRefused, RoundRefused
from secagg.keys import Entropy, draw, uncopied
from secagg.lanes import Coordinates, Words
from secagg.manifest import Manifest, Mode
from secagg.messages import Roster, Step, Sum, Survivors
from secagg.ratchet import WINDOW, PerPeer, Ratchet, RoundKeys, signed
from secagg.recovery import SEED_SIZE, Answered, Consented, Uploaded, chance, consent, self_mask_key, share
from secagg.snapshot import Progress, Rounds
from secagg.tag import RoundTag

__all__ = [
    "Idle",
    "Opened",
    "RoundPhase",
    "Sent",
    "check_step",
    "check_sum",
    "consenting",
    "count_change",
    "is_gone",
    "prepare",
]


@dataclass(frozen=True)
class Idle:
    """No round of ours is open in this process."""

    round: ClassVar[int] = 0  # the number of no round


@dataclass(frozen=True)
class Sent:
    """Mode A: our upload is out. The canary keys are kept for blame: they mask one word whose value is known.

    Args:
        round: of the upload.
        canary: peer → canary key.
    """

    round: int
    canary: PerPeer = field(repr=False)

    __reduce__ = uncopied


@dataclass(frozen=True)
class Opened:
    """A round is reserved. Its keys exist here and nowhere else; the ratchet is already past it.

    Args:
        me: our index.
        context: of the round.
        bits: lane width.
        backend: cipher implementation.
        pads: returns the sum of all masks of the upload, uint64[data words + 2]; waits if it is being computed.
        boxes: mode B: the boxed shares of our self-mask seed.
        after: the phase that the upload leads to.
    """

    me: int
    context: Context
    bits: int
    backend: masks.Backend
    pads: Callable[[], Words] = field(repr=False)
    boxes: tuple[tuple[int, bytes], ...] = field(repr=False)
    after: Sent | Uploaded

    __reduce__ = uncopied

    @property
    def round(self) -> int:
        """Number of the round."""
        return self.context.round

    def check(self, coordinates: Coordinates) -> None:
        """Refuse a vector that is not what the round sums.

        Raises:
            MisuseError: not an array of signed integers, of another shape, or beyond the total bound.
        """
        terms = self.context.terms
        if not (isinstance(coordinates, np.ndarray) and coordinates.dtype.kind == "i"):
            raise MisuseError("an upload takes an array of signed integers")
        if coordinates.shape != (terms.length,):
            raise MisuseError(f"an upload of shape {coordinates.shape}; the round sums {terms.length} coordinates")
        if _exceeds(coordinates, terms.total_bound):
            raise MisuseError(f"a coordinate beyond the total bound {terms.total_bound}: clamp before masking")

    def mask(self, coordinates: Coordinates, group: bytes) -> bytes:
        """Return the words of the upload: masked data, tag and canary, little-endian.

        Args:
            coordinates: checked; nothing else may be masked for this round, before or after.
            group: the group key, 32 octets.
        """
        tag = _tag(self.context, group, self.backend)
        words = self.pads()
        words[:-2] += lanes.pack(coordinates, self.bits)
        words[-2:] += np.array([tag.share(coordinates, self.me), 1], dtype=np.uint64)
        return words.astype("<u8", copy=False).tobytes()


RoundPhase: TypeAlias = Idle | Opened | Sent | Uploaded | Consented | Answered
"""Where a client stands within a round. None of it is ever stored."""


# ---- asking ----


def check_step(manifest: Manifest, me: int, nonce: bytes, progress: Progress, rounds: Rounds, step: Step) -> Progress:
    """Refuse a round that this site must not upload for, before any key turns.

    Args:
        manifest: of the run.
        me: our index.
        nonce: of our present session.
        progress: where we stand.
        rounds: whom we share keys with, and whether we have just joined.
        step: as received.

    Returns:
        The progress with the roster counted; the number is not yet taken.

    Raises:
        RoundRefused: of another history, not above the last round, more than 1024 above it, or beyond the run's last.
        RosterRefused: a stranger, too small, without us, an old session of ours, a member we share no keys with, or
            one change too many.
    """
    which = f"round {step.round}"
    if step.sums < progress.sums:
        raise RoundRefused(f"{which}: the coordinator counts {step.sums} sums, this site has {progress.sums}")
    # The number is checked before any key turns: 2**60 must not make a site hash for ever.
    if step.round <= progress.last_round:
        raise RoundRefused(f"{which} is used up; this site is past {progress.last_round}")
    if step.round > progress.last_round + WINDOW and not rounds.late:
        raise RoundRefused(f"{which} is more than {WINDOW} above {progress.last_round}")
    members = check_roster(manifest, step.round, step.roster)
    _check_session(me, nonce, step.roster, which)
    if unknown := set(members) - rounds.ratchet.chains.keys() - {me}:
        raise RosterRefused(f"{which}: this site shares no keys with member {manifest.call(min(unknown))} yet")
    return count_change(manifest, progress, step.round, members)


def _check_session(me: int, nonce: bytes, roster: Roster, which: str) -> None:
    listed = dict(roster).get(me)
    if listed is None:
        raise RosterRefused(f"{which}: this site, member {me}, is not on the roster")
    if not hmac.compare_digest(listed, nonce):
        raise RosterRefused(
            f"{which}: the roster names another session of this site, member {me}: "
            "an older process, or a second one under this identity"
        )


def count_change(manifest: Manifest, progress: Progress, round_: int, members: tuple[int, ...]) -> Progress:
    """Return the progress after a roster we were asked for, or survivors we consent to.

    Raises:
        RosterRefused: one change more than the study allows.
    """
    asked = progress.asked(members)
    if asked.changes > manifest.roster_changes:
        raise RosterRefused(
            f"round {round_}: this would be roster change number {asked.changes}; "
            f"the study allows {manifest.roster_changes}"
        )
    return asked


def consenting(
    manifest: Manifest, progress: Progress, phase: Uploaded, message: Survivors
) -> tuple[Progress, Consented]:
    """Consent to survivors: the progress to be written before the consent leaves, and the phase with the consent.

    The server may open their sum and never show it, so a change counts from here on.

    Raises:
        RosterRefused: survivors that nobody may open a sum of, or one change more than the study allows.
    """
    after = consent(phase, message, manifest.threshold)
    counted = count_change(manifest, progress, message.round, message.members)
    return replace(counted, consented=message.round, survivors=message.members), after


def is_gone(manifest: Manifest, progress: Progress, phase: RoundPhase, round_: int) -> bool:
    """Whether a round of mode B may have been ours, in an earlier process or before the present one."""
    return manifest.mode is Mode.B and phase.round != round_ <= progress.last_round


# ---- masking ----


def prepare(
    manifest: Manifest,
    me: int,
    context: Context,
    ratchet: Ratchet,
    entropy: Entropy,
    backend: masks.Backend,
    executor: Executor | None,
) -> Opened:
    """Derive all keys of a round and begin to compute its masks.

    Args:
        manifest: of the run.
        me: our index.
        context: of the round.
        ratchet: at the round's position.
        entropy: returns unpredictable octets, for mode B.
        backend: cipher implementation.
        executor: where to compute the masks now; without it they are computed when they are asked for.
    """
    keys = ratchet.keys(me, context.members, manifest.mode, context.digest)
    own: tuple[bytes, ...] = ()
    boxes: tuple[tuple[int, bytes], ...] = ()
    after: Sent | Uploaded = Sent(context.round, keys.canary)
    if manifest.mode is Mode.B:
        entropy = chance(draw(entropy, 32), keys, context, backend)
        seed = entropy(SEED_SIZE)
        own = (self_mask_key(seed),)
        others = ratchet.recovery_keys(me, context.members, context.digest)
        after, boxes = share(me, context, seed, keys, others, threshold=manifest.threshold, entropy=entropy)
    size = lanes.word_count(context.terms.length, manifest.lane_bits) + 2
    pads = partial(_pads, size, me, keys, own, backend)
    ready = executor.submit(pads).result if executor else pads
    return Opened(me, context, manifest.lane_bits, backend, ready, boxes, after)


def _pads(size: int, me: int, keys: RoundKeys, own: tuple[bytes, ...], backend: masks.Backend) -> Words:
    add, subtract = signed(me, keys.mask)
    words = masks.pad(size, add=add, subtract=subtract, backend=backend)
    words[-1] = 0  # the canary word has keys of its own
    add, subtract = signed(me, keys.canary)
    masks.apply(words[-1:], add=add, subtract=subtract, backend=backend)
    if own:
        masks.apply(words, add=own, subtract=(), backend=backend)
    return words


# ---- checking ----


def check_sum(
    manifest: Manifest, progress: Progress, total: Sum, context: Context, group: bytes, backend: masks.Backend
) -> tuple[Coordinates, int]:
    """Return a sum's coordinates, int64[d], and its reduced tag.

    Args:
        manifest: of the run.
        progress: where we stand, and which survivors we consented to.
        total: the sum.
        context: of its round, under our history.
        group: the group key.
        backend: cipher implementation.

    Raises:
        ForgedSum: survivors, size, canary, range or tag is wrong.
    """
    _check_survivors(manifest, progress, total, context.terms.share_variance)
    terms, bits, which = context.terms, manifest.lane_bits, f"the sum of round {context.round}"
    words = np.frombuffer(total.words, dtype="<u8").astype(np.uint64, copy=False)
    expected_size = lanes.word_count(terms.length, bits) + 2
    if len(words) != expected_size:
        raise ForgedSum(f"{which} has {len(words)} words, expected {expected_size}")
    if int(words[-1]) != len(total.survivors):
        raise ForgedSum(
            f"{which} does not open: its canary is not {len(total.survivors)}. Either a site ran another "
            "study, history or version, or the coordinator changed it"
        )
    coordinates = lanes.unpack(words[:-2], terms.length, bits)
    if _exceeds(coordinates, terms.total_bound):
        raise ForgedSum(f"{which} has a coordinate beyond the proven bound {terms.total_bound}")
    checker = _tag(context, group, backend)
    tag = checker.reduce(int(words[-2]))
    expected = checker.expected(coordinates, total.survivors)
    if not hmac.compare_digest(tag.to_bytes(8, "big"), expected.to_bytes(8, "big")):
        raise ForgedSum(f"{which} carries a wrong tag: it is not what the sites uploaded")
    return coordinates, tag


def _check_survivors(manifest: Manifest, progress: Progress, total: Sum, noise: int) -> None:
    which, survivors = f"the sum of round {total.round}", total.survivors
    if manifest.mode is Mode.A:
        if survivors != tuple(member for member, _ in total.roster):
            raise ForgedSum(f"{which} is over {len(survivors)} of {len(total.roster)} sites; it opens over all or none")
        return
    if len(survivors) < manifest.threshold:
        raise ForgedSum(f"{which} is over {len(survivors)} sites; no sum opens below {manifest.threshold}")
    if noise == 0 and len(survivors) < len(total.roster):
        raise ForgedSum(f"{which} is over {len(survivors)} of {len(total.roster)} sites: without noise all or none")
    if progress.consented == total.round and progress.survivors != survivors:
        raise ForgedSum(f"{which} is over {survivors}; this site consented to {progress.survivors}")


def _tag(context: Context, group: bytes, backend: masks.Backend) -> RoundTag:
    terms = context.terms
    return RoundTag(group, context.digest, terms.length, bound=terms.total_bound, backend=backend)


def _exceeds(coordinates: Coordinates, bound: int) -> bool:
    # int(): the smallest number of a narrow type has no positive counterpart in it.
    return int(coordinates.max()) > bound or int(coordinates.min()) < -bound
