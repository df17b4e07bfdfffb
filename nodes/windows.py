"""Which stage a round number belongs to: a function of study, kept sums and number, equal wherever those are.

The door goes from stage to stage as the model asks; this says the same without a model, for whoever has to know where
a round stands before it is computed, or where one stood that an earlier process opened.
Source: docs/adr/0004-stage-windows-by-round-number.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nodes.document import Stage

__all__ = ["Placed", "place"]


@dataclass(frozen=True)
class Placed:
    """A round number in its stage.

    Args:
        round: the number; 0 for no round.
        stage: the stage's position in the study, from 0; the number of stages if the round is after the last one.
        start: the stage owns as many numbers as it has uploads, from the one after this.
    """

    round: int
    stage: int
    start: int

    def follows(self, other: Placed) -> bool:
        """Whether a round may come here when one was there.

        It has a larger number, in a later stage or in the same one with a window that ends no later. In a row of rounds
        that follow one another, no stage holds more of them than it has uploads: all are behind the start of the first
        one's window, and none is behind its end. The relation is transitive, and a site that goes on from its own sums
        obeys it: more sums end a stage no later.

        >>> Placed(62, 1, 60).follows(Placed(61, 1, 60)), Placed(67, 1, 66).follows(Placed(61, 1, 60))
        (True, False)
        """
        return self.round > other.round and (self.stage, -self.start) >= (other.stage, -other.start)


def place(stages: Sequence[Stage], sums: Sequence[int], number: int) -> Placed:
    """Return the stage that a round has after some sums.

    >>> long, short = (Stage(kind, "training", *counts, 1, 1.0, 1.0) for kind, counts in [("a", (3, 5)), ("b", (1, 2))])
    >>> [place((long, short), (1, 2), number).stage for number in (5, 6, 7, 8)]
    [0, 1, 1, 2]
    >>> place((long, short), (1, 2, 4), 5)
    Placed(round=5, stage=1, start=4)

    Args:
        stages: of the study, in order.
        sums: round numbers of the sums that came before, ascending.
        number: the round's own.
    """
    start = summed = 0
    for position, stage in enumerate(stages):
        end = start + stage.uploads
        mine = [each for each in sums[summed:][: stage.steps] if each <= end]
        summed += len(mine)
        if len(mine) == stage.steps:
            start = mine[-1]
        elif number > end:
            start = end
        else:
            return Placed(number, position, start)
    return Placed(number, len(stages), start)
