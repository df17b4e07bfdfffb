"""A coordinator of mode B that may tell every site something else, and what it can compute from what it is told.

It drives real clients. Colluders are sites whose memory it reads.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from secagg import masks, recovery, shamir
from secagg.errors import PeerError, SessionOver
from secagg.messages import Agreement, Consent, Roster, Shares, Step, Survivors, Upload
from secagg.rounds import Idle
from secagg.snapshot import Over
from tests.federation import Site, roster

NO_BOX = bytes(48)


@dataclass
class Round:
    """One round as this coordinator plays it.

    Args:
        sites: member → site; each has finished set-up.
        number: of the round.
        roster: who is asked.
    """

    sites: Mapping[int, Site]
    number: int
    roster: Roster
    uploads: dict[int, Upload] = field(default_factory=dict)
    vectors: dict[int, np.ndarray] = field(default_factory=dict)
    consents: dict[int, dict[int, bytes]] = field(default_factory=dict)
    answers: dict[int, Shares] = field(default_factory=dict)
    memory: dict[int, Any] = field(default_factory=dict)  # of each site after its upload; read for colluders only

    @classmethod
    def opened(cls, sites: Mapping[int, Site], number: int, *uploading: int, of: Roster | None = None) -> "Round":
        """Ask a roster (all sites by default) and collect the uploads of some of it (all by default)."""
        each = cls(sites, number, of or roster(dict(sites)))
        for member in uploading or [member for member, _ in each.roster]:
            site = sites[member]
            each.uploads[member] = site.upload(Step(number, site.client.sums, each.roster))
            each.vectors[member] = list(site.disk.data.values())[-1]
            each.memory[member] = site.client._round
        return each

    @property
    def members(self) -> tuple[int, ...]:
        return tuple(member for member, _ in self.roster)

    def show(self, survivors: Iterable[int], *to: int) -> None:
        """Show these survivors to some members (to all of them by default) and keep their consents."""
        survivors = tuple(survivors)
        for member in to or survivors:
            (consent,) = self.sites[member].client.receive(Survivors(self.number, survivors))
            assert isinstance(consent, Consent)
            self.consents[member] = dict(consent.to)

    def macs(self, member: int, senders: Iterable[int]) -> dict[int, bytes]:
        """The MACs these senders have made for a member, over whatever set they were shown."""
        return {each: self.consents[each][member] for each in senders if member in self.consents.get(each, {})}

    def boxes(self, member: int, survivors: Iterable[int]) -> dict[int, bytes]:
        """The boxes of these survivors for a member; garbage where there is none."""
        made = {each: dict(upload.boxes) for each, upload in self.uploads.items()}
        return {each: made.get(each, {}).get(member, NO_BOX) for each in survivors if each != member}

    def agreement(
        self, member: int, survivors: Collection[int], *,
        macs: Mapping[int, bytes] | None = None, boxes: Mapping[int, bytes] | None = None,
    ) -> Agreement:  # fmt: skip
        """What a member is sent after its consent: honest, or with these MACs or boxes exchanged."""
        macs = self.macs(member, [each for each in survivors if each != member]) | dict(macs or {})
        boxes = self.boxes(member, survivors) | dict(boxes or {})
        return Agreement(self.number, tuple(sorted(macs.items())), tuple(sorted(boxes.items())))

    def ask(self, member: int, survivors: Collection[int], **changes: Any) -> Shares:
        """Send a member its agreement and keep its answer."""
        (shares,) = self.sites[member].client.receive(self.agreement(member, survivors, **changes))
        assert isinstance(shares, Shares)
        self.answers[member] = shares
        return shares

    def try_(self, member: int, survivors: Collection[int], **changes: Any) -> bool:
        """Whether a member answers."""
        try:
            self.ask(member, survivors, **changes)
        except PeerError:
            return False
        return True

    # ---- what it can compute ----

    def colluder_mac(self, colluder: int, receiver: int, survivors: tuple[int, ...]) -> bytes:
        """The MAC of a colluder over any set: it has the key."""
        return recovery._mac(self.memory[colluder], colluder, receiver, survivors)

    def shares(self, of: int, colluders: Iterable[int] = ()) -> dict[int, bytes]:
        """Holder → share of a member's self-mask seed: what answers have shown, and what colluders hold."""
        known = {holder: dict(each.shares)[of] for holder, each in self.answers.items() if of in dict(each.shares)}
        for each in colluders:
            with suppress(PeerError):  # a box for another context
                memory, boxes = self.memory[each], dict(self.uploads[of].boxes)
                known[each] = memory.share if each == of else recovery._unseal(memory, of, boxes[each])
        return known

    def pair_keys(self, colluders: Iterable[int] = ()) -> dict[tuple[int, int], bytes]:
        """(u, v) → the mask key with which u has masked towards v, as far as it is known."""
        known = {}
        for member, each in self.answers.items():
            known |= {(member, dropped): keys[:32] for dropped, keys in each.keys}
        for each in colluders:
            known |= {(each, peer): key for peer, key in self.memory[each].masks.mask.items()}
        return known | {(v, u): key for (u, v), key in known.items()}

    def stripped(self, member: int, threshold: int, colluders: Collection[int] = ()) -> np.ndarray:
        """The data words of an upload without every mask that is known, or can be guessed from too few shares."""
        words = np.frombuffer(self.uploads[member].words, dtype="<u8").copy()
        if shares := self.shares(member, colluders):
            # With too few it is a guess: what a sharing of lower degree would give away.
            seed = shamir.combine(shares, min(threshold, len(shares)))
            masks.apply(words, add=[], subtract=[recovery.self_mask_key(seed)])
        for (u, v), key in self.pair_keys(colluders).items():
            if u == member:
                sign = {"add": [key], "subtract": []} if member > v else {"add": [], "subtract": [key]}
                masks.apply(words[:-1], **sign)
        return words[:-2]


def assert_noise(words: np.ndarray) -> None:
    """Uniformly random words: 64·n fair coins, within six standard deviations."""
    ones = int(np.unpackbits(np.ascontiguousarray(words).view(np.uint8)).sum())
    coins = 64 * len(words)
    assert abs(ones - coins / 2) < 6 * np.sqrt(coins) / 2


def over(site: Site, error: Any, call: Callable[..., Any], *args: Any, **changes: Any) -> None:
    """The call ends the session for good: no key is left, nothing is answered any more."""
    before: Any = site.client._phase
    with pytest.raises(error):
        call(*args, **changes)
    assert isinstance(site.client._phase, Over)
    assert isinstance(site.client._round, Idle)
    left = site.client.snapshot()
    assert not any(secret in left for secret in (before.group, *before.ratchet.chains.values()))
    with pytest.raises(SessionOver):
        call(*args, **changes)


def plain(round_: Round, members: Iterable[int]) -> np.ndarray:
    return np.array([round_.vectors[member] for member in members]).sum(axis=0).view(np.uint64)
