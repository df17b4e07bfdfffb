"""Noise of the local steps behind one upload: as many, and as much, as that upload is charged for.

`models.algorithms.local` proves that E steps of multiplier z cost as one Gaussian release of multiplier z/√E. The door
makes one `LocalSteps` for an upload, from secret bytes of its own, so that every upload draws anew, also one that
repeats an aborted round; and it lets no upload leave whose E steps have not all been drawn for.
"""

from __future__ import annotations

from dp.queries import Float64, Keystream, Query
from models.algorithms.averaging import Averaging
from models.algorithms.chosen import read
from models.algorithms.local import OwnNoise, step_query
from models.presets import Preset
from nodes.errors import InternalError, StudyInvalid
from nodes.study import Study

__all__ = ["LocalSteps"]


class LocalSteps:
    """`models.algorithms.local.LocalNoise` of one upload.

    Args:
        study: says how many local steps there are and what one patient's gradient is clipped to.
        upload: the query that the upload answers.
        keystream: secret bytes for this upload, used for nothing else.

    Raises:
        StudyInvalid: the study has no local steps.
    """

    def __init__(self, study: Study, upload: Query, keystream: Keystream) -> None:
        algorithm = read(study.learning.algorithm or {})
        if not isinstance(algorithm, Averaging):
            raise StudyInvalid(f"study {study.name!r} has no local steps that noise could be drawn for")
        self._upload, self._wanted = upload, algorithm.local_steps
        self._clip = Preset.from_json(study.learning.preset).clip
        self._noise = OwnNoise(keystream)
        self._drawn = 0

    def __call__(self, query: Query, clipped: Float64) -> Float64:
        """See `LocalNoise`.

        Raises:
            StudyInvalid: another step than the upload is charged for.
        """
        if query != step_query(self._upload, self._clip, self._wanted, query.index):
            raise StudyInvalid(f"local step {query.index} has not the clip norm or the noise that the study signed")
        self._drawn += 1
        return self._noise(query, clipped)

    def require_all_drawn(self) -> None:
        """Refuse an upload that has drawn noise for fewer steps than it is charged for, or for more.

        Raises:
            InternalError: what the upload holds is not protected as the ledger says.
        """
        if self._drawn != self._wanted:
            raise InternalError(
                f"an upload is charged for the noise of {self._wanted} local steps, and {self._drawn} were drawn; "
                "nothing was sent"
            )
