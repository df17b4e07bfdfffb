"""A man in the middle of one site's streams: duplicates, delays, reorders, replays and drops messages.

He stands inside TLS, so what he does is what a dishonest coordinator or a broken network stack could do. He sees every
message of his site over all its connections and may send any of them again.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any, Final, Protocol

from secagg.messages import Upload, parts

__all__ = ["PART", "MeddledConnection", "Meddler"]

PART: Final = 64
"""Octets of a piece of an upload here: several pieces even of a small vector, so that they can be meddled with."""

_KEPT: Final = 400  # messages remembered in each direction
_TRICKS: Final = ("duplicate", "delay", "reorder", "replay", "drop")


class Connection(Protocol):
    """What he stands in: a stream to the coordinator."""

    def send(self, message: Any, /) -> None: ...
    def receive(self) -> Any: ...
    def waiting(self) -> bool: ...
    def close(self) -> None: ...


class Meddler:
    """His memory and his dice.

    Args:
        chance: his dice.
        rate: probability of a trick per message; he waits while it is 0.
    """

    def __init__(self, chance: random.Random, rate: float = 0.0) -> None:
        self.tricks: Counter[str] = Counter()
        self.rate = rate
        self._chance = chance
        self._seen: dict[str, list[Any]] = {"up": [], "down": []}

    def meddle(self, direction: str, message: Any, held: deque[Any]) -> list[Any]:
        """Return what goes on instead of a message; `held` is what he keeps back on this connection and way."""
        seen = self._seen[direction]
        seen.append(message)
        del seen[:-_KEPT]
        trick = self._chance.choice(_TRICKS) if self._chance.random() < self.rate else ""
        match trick:
            case "duplicate":
                out = [message, message]
            case "delay" | "reorder":
                held.append(message)
                out = []
            case "replay":
                out = [message, self._chance.choice(seen)]
            case "drop":
                out = []
            case _:
                out = [message]
        self.tricks[trick] += 1
        # What was held back goes out behind the next message (reordered) or much later (delayed).
        if held and trick not in ("delay", "reorder") and self._chance.random() < 0.7:
            out.append(held.popleft())
        return out


class MeddledConnection:
    """A connection with him in it."""

    def __init__(self, inner: Connection, meddler: Meddler) -> None:
        self._inner, self._meddler = inner, meddler
        self._held: dict[str, deque[Any]] = {"up": deque(), "down": deque()}
        self._ready: deque[Any] = deque()

    def send(self, message: Any) -> None:
        """Send what he makes of a message; of an upload, of each of its pieces."""
        for piece in parts(message, PART) if isinstance(message, Upload) else (message,):
            for sent in self._meddler.meddle("up", piece, self._held["up"]):
                self._inner.send(sent)

    def receive(self) -> Any:
        """Return the next message he lets through; only after `waiting` has said that there is one."""
        return self._ready.popleft() if self._ready else self._inner.receive()

    def waiting(self) -> bool:
        """Whether a message, or the end of the stream, lies ready."""
        while not self._ready and self._inner.waiting():
            self._ready.extend(self._meddler.meddle("down", self._inner.receive(), self._held["down"]))
        return bool(self._ready)

    def close(self) -> None:
        """Give the stream up."""
        self._inner.close()
