"""The one place where a vector becomes a message.

    clipped float sum ─▶ round + exact noise share ─▶ tag + masks ─▶ charge the ledger and store ─▶ send

Updates that local steps made have their noise inside those steps (`nodes.local_steps`) and none beside them.

Whoever reads this file has read the way out of a hospital; there is no second one. Only queries that stand in the
signed study pass, only while their stage has round numbers left, and never before the charge and the bytes are durable
together.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dp.errors import UploadsExhausted
from dp.queries import Float64, Query
from models.algorithms.protection import UPDATE
from nodes.errors import InternalError, PeerProblem, StudyStopped
from nodes.grids import grid
from nodes.local_steps import LocalSteps
from nodes.session import Session
from nodes.study import Stage, Study
from secagg.client import Client
from secagg.encoding import enc
from secagg.errors import UnexpectedMessage
from secagg.keys import hedged_key
from secagg.lanes import unpack
from secagg.manifest import Noise
from secagg.masks import CTR, Backend, Keystream
from secagg.messages import Finish, Step, Sum, Upload


@dataclass(frozen=True)
class Progress:
    """What may be shown while a study runs: public or released numbers only.

    Args:
        kind: the stage.
        index: completed sums of this stage.
        steps: wanted sums of this stage.
        round: the round number just completed or uploaded for.
        roster: names of the sites in it: who is asked, or whose uploads are in the sum.
        event: "upload" or "sum".
        protection: what the study's noise is, in words.
    """

    kind: str
    index: int
    steps: int
    round: int
    roster: tuple[str, ...]
    event: str
    protection: str


class Records(Protocol):
    """What the door needs kept durably; `nodes.accounts` joins ledger and database."""

    def charge_and_store(self, query: Query, context: bytes, upload: Upload) -> None:
        """Append the debit and store the upload in one transaction; raises before anything if the stage is spent."""

    def stored_upload(self, round_number: int) -> tuple[bytes, Upload] | None:
        """Return the context digest and the bytes of an earlier upload under this number."""

    def keep_sum(self, position: int, total: Sum) -> None:
        """Store an applied sum."""

    def kept_sum(self, position: int) -> Sum:
        """Return a sum that is kept."""


class Door:
    """`dp.SecureSum` over a live session.

    Args:
        study: the signed study.
        client: the protocol client.
        session: delivers sums and steps in order.
        records: ledger and database.
        noise_secret: 32 bytes of this site, mixed into every round's randomness (hedge against a cloned generator).
        entropy: returns n fresh bytes from the operating system.
        progress: told of every upload and sum.
        kept: how many sums this site had applied and kept before its last start; they are applied again.
        executor: makes the masks while the contribution is computed; without one they are made afterwards.
        backend: cipher implementation, also for the noise; all give the same bytes.
    """

    def __init__(
        self,
        study: Study,
        client: Client,
        session: Session,
        records: Records,
        *,
        noise_secret: bytes,
        entropy: Callable[[int], bytes] = os.urandom,
        progress: Callable[[Progress], None] = lambda _: None,
        kept: int = 0,
        executor: Executor | None = None,
        backend: Backend = CTR,
    ) -> None:
        self._study = study
        self._client = client
        self._session = session
        self._records = records
        self._noise_secret = noise_secret
        self._entropy = entropy
        self._progress = progress
        self._kept = kept
        self._executor = executor
        self._backend = backend
        self._manifest = study.manifest()
        self._applied = 0
        self._stage = ""
        self._start = self._end = 0  # round numbers (start, end] belong to the present stage
        self._last_sum = 0
        self._names = {site.index: site.name for site in study.sites}
        self._sampling: Keystream | None = None  # of the upload that is being made, as the next
        self._steps: LocalSteps | None = None

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        """Take part in one sum and return it decoded; see `dp.SecureSum`.

        Raises:
            StudyInvalid: the study contains no such query.
            UploadsExhausted: the stage's round numbers are used up; the next query of the study takes this round.
            PeerError: a sum was forged or the coordinator broke the protocol; the study is over at this site.
            StudyStopped: the coordinator ended the run before this query was summed.
        """
        stage = self._study.stage_of(query)
        self._enter(stage)
        while True:
            match self._head():
                case Sum() as total:
                    self._client.admit(total.round, total.roster)
                    self._check_window(stage, total.round)
                    return self._accept(stage, query, total)
                case Step() as step:
                    self._client.admit(step.round, step.roster)
                    self._require_history(step)
                    self._check_window(stage, step.round)
                    self._session.done()
                    self._upload(stage, query, step, contribution)
                case Finish() as finish:
                    raise StudyStopped(
                        f"the coordinator ended the study before {query.kind!r} was summed: {finish.reason}"
                    )

    def sampling(self, n: int) -> bytes:
        """Return the next n secret bytes for drawing which patients are in the upload that is being made.

        Every upload has its own: a round that is asked for again after an abort draws again, because two uploads with
        one sample would cost more than two samples do.

        Raises:
            InternalError: no upload is being made.
        """
        if self._sampling is None:
            raise InternalError("patients are drawn for an upload and never without one")
        return self._sampling(n)

    def local_noise(self, query: Query, clipped: Float64) -> Float64:
        """Return the clipped sum of one local step of the upload that is being made, with this site's whole noise.

        Raises:
            InternalError: no upload with local steps is being made.
            StudyInvalid: the step is not the one that the study signed.
        """
        if self._steps is None:
            raise InternalError("noise of local steps is drawn for an upload and never without one")
        return self._steps(query, clipped)

    def _head(self) -> Sum | Step | Finish:
        return self._records.kept_sum(self._applied) if self._applied < self._kept else self._session.head()

    def _require_history(self, step: Step) -> None:
        if step.sums > self._applied:
            raise UnexpectedMessage(
                f"round {step.round} follows {step.sums} sums, and the coordinator has sent {self._applied}"
            )

    def _enter(self, stage: Stage) -> None:
        if stage.kind != self._stage:
            self._stage = stage.kind
            self._start = max(self._start, self._last_sum)
            self._end = self._start + stage.uploads

    def _check_window(self, stage: Stage, round_number: int) -> None:
        if round_number > self._end:
            self._start = self._end
            raise UploadsExhausted(f"stage {stage.kind!r} ends with round {self._end}")

    def _accept(self, stage: Stage, query: Query, total: Sum) -> Float64:
        lattice = grid(self._manifest, query, len(total.roster))
        if self._applied < self._client.sums:
            # Checked and taken into the client's transcript before this process started; only the model needs it again.
            words = np.frombuffer(total.words, dtype="<u8")[:-2].astype(np.uint64)
            coordinates = unpack(words, query.length, self._manifest.lane_bits)
        else:
            coordinates = self._client.accept(total, lattice.terms(query))
        if self._applied >= self._kept:
            self._records.keep_sum(self._applied, total)
            self._session.done()
        self._applied += 1
        self._last_sum = total.round
        self._report(stage, query.index + 1, total.round, total.survivors, "sum")
        return lattice.decode(coordinates, query)

    def _upload(self, stage: Stage, query: Query, step: Step, contribution: Callable[[], Float64]) -> None:
        lattice = grid(self._manifest, query, len(step.roster))
        terms = lattice.terms(query)
        context = self._client.context(step.round, step.roster, terms)
        if (stored := self._records.stored_upload(step.round)) is not None:
            # Never two vectors under one number: the identical bytes again, or nothing.
            if stored[0] != context.digest:
                raise PeerProblem(
                    f"round {step.round} was asked for twice with different terms; this site answers a round once"
                )
            self._session.send(stored[1])
            return
        context = self._client.open(step, terms, executor=self._executor)
        stream = self._stream(context.digest)
        if stage.sampling_probability < 1:
            self._sampling = self._stream(_purpose("haemfed/sampling/v1", context.digest))
        if stage.kind == UPDATE and self._manifest.noise is Noise.LOCAL:
            noise = self._stream(_purpose("haemfed/local-noise/v1", context.digest))
            self._steps = LocalSteps(self._study, query, noise)
        try:
            values = contribution()
            if self._steps is not None:
                self._steps.require_all_drawn()
        finally:
            self._sampling = self._steps = None
        coordinates = lattice.encode(values, query, stream)
        upload = self._client.upload(context, coordinates)
        self._records.charge_and_store(query, context.digest, upload)
        self._session.send(upload)
        self._report(stage, query.index, step.round, context.members, "upload")

    def _stream(self, purpose: bytes) -> Keystream:
        """Secret bytes that even a cloned or starved generator repeats for the identical round only."""
        return Keystream(hedged_key(self._entropy(32), self._noise_secret, purpose), self._backend)

    def _report(self, stage: Stage, index: int, number: int, members: tuple[int, ...], event: str) -> None:
        names = tuple(self._names[member] for member in members)
        self._progress(Progress(stage.kind, index, stage.steps, number, names, event, self._study.protection))


def _purpose(label: str, context: bytes) -> bytes:
    return hashlib.sha256(enc(label, context)).digest()
