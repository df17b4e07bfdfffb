"""The server's decisions about set-up: who founds the run, and when listed members join that have missed it.

The relay keeps and hands on; this module says when a wave begins and closes. Every decision is stored before it is
sent, like the members' messages.
"""

from collections.abc import Collection, Sequence

from secagg.actions import Send, StoredSetup, StoreSetup
from secagg.manifest import Manifest
from secagg.messages import Bundles, Invite, SetupMessage
from secagg.relay import Relay

__all__ = ["Waves"]


class Waves:
    """Set-up at the server.

    Args:
        manifest: whose members take part.
        stored: all stored set-up messages, in order.
    """

    def __init__(self, manifest: Manifest, stored: Sequence[StoredSetup]) -> None:
        self._manifest = manifest
        self._relay = Relay(manifest, stored)
        first = (each.members for each in stored if isinstance(each, Bundles) and each.wave == 0)
        self.founders = frozenset(next(first, ()))
        """Members of wave 0; empty until it is decided."""

    @property
    def ready(self) -> frozenset[int]:
        """Members whose set-up is complete: they may share a roster, and can check sums."""
        return self._relay.ready

    def backlog(self, member: int) -> list[Send]:
        """Return what a member that has just connected still needs."""
        return [Send(*addressed) for addressed in self._relay.backlog(member)]

    def receive(self, member: int, message: SetupMessage) -> list[StoreSetup | Send]:
        """Take a set-up message; the same again changes nothing.

        Raises:
            PeerError: it breaks the protocol; nothing has changed.
        """
        return self._publish(message) if self._relay.store(member, message) else []

    def stuck(self, gone: Collection[int]) -> bool:
        """Whether wave 0 waits for a member that has stopped for good."""
        return any(member in self._relay.offered - self._relay.ready for member in gone)

    def enough(self, gone: Collection[int]) -> bool:
        """Whether wave 0 is open and could be closed with those that have offered their keys."""
        many = len(self._relay.offered) >= self._manifest.minimum_roster
        return not self._relay.closed and many and not self.stuck(gone)

    def close(self) -> list[StoreSetup | Send]:
        """Close wave 0: whoever has offered no keys has to join later."""
        bundles = self._relay.close()
        self.founders = frozenset(bundles.members)
        return self._decide(bundles)

    def proceed(self, present: frozenset[int], gone: Collection[int]) -> list[StoreSetup | Send]:
        """Decide whatever can be decided now.

        Args:
            present: connected members.
            gone: members that have stopped for good.
        """
        if not self._relay.closed:
            complete = frozenset(self._manifest.indices).difference(gone) <= self._relay.offered
            return self.close() if complete and self.enough(gone) else []
        decision = self._relay.settle() or self._relay.invite(present.difference(gone))
        return self._decide(decision) if decision else []

    def _decide(self, decision: Bundles | Invite) -> list[StoreSetup | Send]:
        self._relay.take(decision)
        return self._publish(decision)

    def _publish(self, message: StoredSetup) -> list[StoreSetup | Send]:
        return [StoreSetup(message), *(Send(*addressed) for addressed in self._relay.hand_on(message))]
