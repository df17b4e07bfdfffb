"""What the fuzzed state machines share: twisted messages, secrets that were seen, a walk over objects, how long to run.

In `make check` a machine plays the same few scripts each time; `make chaos` plays fifty times as many, new each time.
"""

import gc
import hmac
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any
from unittest import mock

import hypothesis
import numpy as np

from secagg import Client, Manifest
from secagg.context import Context
from secagg.errors import MalformedMessage, MisuseError, PeerError, SessionOver
from secagg.messages import Step, Sum
from secagg.snapshot import Over
from tests.federation import Study, entropy, identity, pins
from tests.sweeps import examples


def twisted(chance: random.Random, message: Any, pool: list[Any]) -> Any:
    """A message of the same kind with one field changed or taken from another one; None if no such message exists."""
    name = chance.choice([each.name for each in fields(message)])
    same = [each for each in pool if type(each) is type(message)]
    value = getattr(message, name)
    other = getattr(chance.choice(same), name) if same and chance.random() < 0.4 else _other(chance, value)
    try:
        return replace(message, **{name: other})
    except MalformedMessage:
        return None


def _other(chance: random.Random, value: Any) -> Any:
    match value:
        case int():
            return max(0, value + chance.choice([-1, 1, 2, 1025]))
        case bytes() if value:
            place = chance.randrange(len(value))
            return value[:place] + bytes([value[place] ^ 1 << chance.randrange(8)]) + value[place + 1 :]
        case tuple() if value:
            place = chance.randrange(len(value))
            if chance.random() < 0.3:
                return value[:place] + value[place + 1 :]
            return (*value[:place], _other(chance, value[place]), *value[place + 1 :])
        case _ if is_dataclass(value) and not isinstance(value, type):
            return twisted(chance, value, []) or value
    return value


class Immediately(Executor):
    """Computes at once, in the caller's thread."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(call(*args, **kwargs))
        return done


@contextmanager
def watching() -> Iterator[set[bytes]]:
    """Collect every output of HMAC-SHA256: all keys of the protocol but those that were drawn."""
    seen: set[bytes] = set()
    digest = hmac.digest

    def recorded(key: Any, message: Any, name: Any) -> bytes:
        seen.add(digest(key, message, name))
        return digest(key, message, name)

    with mock.patch("hmac.digest", recorded):
        yield seen


def reachable(root: Any) -> Iterator[Any]:
    """Everything that an object leads to, except code."""
    seen: set[int] = set()
    queue = [root]
    while queue:
        each = queue.pop()
        if id(each) in seen or isinstance(each, type) or hasattr(each, "__code__") or type(each).__name__ == "module":
            continue
        seen.add(id(each))
        yield each
        queue += gc.get_referents(each)


def secrets_left(client: Any, secrets: set[bytes]) -> list[Any]:
    """What a client that has stopped still holds of these secrets, of masks, and of the library's private keys.

    Its identity outlives the run, and its nonce is public.
    """
    ours = {name: value for name, value in vars(client).items() if name not in {"_entropy", "_identity", "_nonce"}}
    return [
        each
        for each in reachable(ours)
        if (isinstance(each, bytes) and each in secrets)
        or isinstance(each, np.ndarray)
        or type(each).__module__.startswith("cryptography")
    ]


LENGTH = 2
STUDY = Study(steps=1 << 20, length=LENGTH)


class Node:
    """A client and its disk, whose states are all kept.

    Args:
        of: the manifest.
        member: its index.
        start: tells the starts of its process apart.
        snapshot: what it starts from.
    """

    def __init__(self, of: Manifest, member: int, start: str, snapshot: bytes | None = None) -> None:
        self.manifest, self.member = of, member
        self.drawn: set[bytes] = set()
        chance = entropy(f"fuzz {member} {start}")

        def draw(size: int) -> bytes:
            octets_ = chance(size)
            self.drawn |= {octets_, *(octets_[i : i + 32] for i in range(0, size, 32))}
            return octets_

        self.client = Client(
            of, member, identity(member), entropy=draw, nonce=entropy(f"nonce {member} {start}")(32), pins=pins(of),
            snapshot=snapshot,
        )  # fmt: skip
        self.disk = [self.client.snapshot()]
        self.context, self.values = b"", [0]  # of the upload it made last
        self.accepted = b""  # context of the sum it was shown last
        self.error: PeerError | None = None

    def give(self, secrets: set[bytes], message: Any) -> list[Any]:
        """Do with a message what the shell does. Whatever goes wrong must go wrong as the contract says."""
        client = self.client
        before = (client.snapshot(), client._round)
        try:
            answers = self._take(message)
        except MisuseError as error:
            self._unchanged(error, before)
            return []
        except PeerError as error:
            self._stopped(error, secrets | self.drawn)
            return []
        assert self.error is None
        self.disk.append(client.snapshot())
        return answers

    def _unchanged(self, error: MisuseError, before: Any) -> None:
        over, now = isinstance(error, SessionOver), (self.client.snapshot(), self.client._round)
        assert over == (self.error is not None)
        assert now == before

    def _stopped(self, error: PeerError, secrets: set[bytes]) -> None:
        """No key is left, neither in memory nor on the disk nor in what is said about it."""
        assert self.error is None
        self.error = error
        assert not self.client.ready
        assert isinstance(self.client._phase, Over)
        assert secrets_left(self.client, secrets) == []
        left = self.client.snapshot()
        assert not any(secret in left or secret.hex() in str(error) for secret in secrets if len(secret) >= 32)
        self.disk.append(left)

    def _take(self, message: Any) -> list[Any]:
        client = self.client
        match message:
            case Step():
                terms = STUDY.terms(client.sums, 3, 1)
                terms = replace(terms, honest=self.manifest.honest(len(message.roster)))
                context = client.open(message, terms, executor=Immediately() if message.round % 2 else None)
                self.disk.append(client.snapshot())
                values = np.array([self.member, message.round * 1000 + len(self.disk)])
                upload = client.upload(context, values)
                self.context, self.values = context.digest, values.tolist()
                return [upload]
            case Sum():
                terms = STUDY.terms(client.sums, 3, 1)
                terms = replace(terms, honest=self.manifest.honest(len(message.roster)))
                history = client.transcript
                values = client.accept(message, terms)
                self.accepted = Context.build(self.manifest, message.round, message.roster, terms, history).digest
                return [values]
        return list(client.receive(message))


def few(scripts: int) -> hypothesis.settings:
    """So many scripts of at most 30 steps, the same each time; in `make check` a quarter of them."""
    return _settings(examples(scripts), derandomize=True, database=None)


def many(scripts: int) -> hypothesis.settings:
    """Fifty times as many, of at most 50 steps."""
    return _settings(50 * scripts, stateful_step_count=50)


def _settings(scripts: int, **changes: Any) -> hypothesis.settings:
    values = {"stateful_step_count": 30, "deadline": None, "suppress_health_check": list(hypothesis.HealthCheck)}
    return hypothesis.settings(max_examples=scripts, **values | changes)
