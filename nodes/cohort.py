"""This site's patients as a study sees them: the frozen table, split for ever into training and holdout."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harmonize.errors import ProfileMismatch
from harmonize.modalities import listed
from harmonize.profile import Profile, load
from harmonize.split import partition
from harmonize.table import Table
from models.data import SurvivalData
from nodes.errors import DataProblem
from nodes.files import read
from nodes.study import Study


@dataclass(frozen=True)
class Cohort:
    """The two sides of one table.

    Args:
        train: training patients.
        holdout: holdout patients.
        train_pids: pseudonyms of the training patients, in order; they never leave.
        holdout_pids: the same for the holdout.
        digest: names the frozen snapshot, for the journal.
    """

    train: SurvivalData = field(repr=False)
    holdout: SurvivalData = field(repr=False)
    train_pids: tuple[str, ...] = field(repr=False)
    holdout_pids: tuple[str, ...] = field(repr=False)
    digest: str

    @property
    def size(self) -> int:
        """All patients: a local number, never sent."""
        return len(self.train_pids) + len(self.holdout_pids)


def study_profile(study: Study) -> Profile:
    """Load the profile that a study names.

    Raises:
        DataProblem: this version ships another profile of that name.
    """
    profile = load(study.profile)
    if profile.digest != study.profile_digest:
        raise DataProblem(
            f"study {study.name!r} needs profile {study.profile!r} with digest {study.profile_digest[:16]}…, this "
            f"version has {profile.digest[:16]}…; install the version of haemfed that the study was drafted with"
        )
    return profile


def load_cohort(study: Study, table: Path, split_key: bytes) -> Cohort:
    """Read the canonical table and split it.

    Raises:
        StorageProblem: the table is missing or unreadable.
        DataProblem: it was made under another profile, or the profile has not the study's columns.
    """
    profile = study_profile(study)
    try:
        whole = Table.from_parquet(read(table), profile)
    except ProfileMismatch as error:
        raise DataProblem(f"{table}: {error}; run `haemfed harmonize run` again") from error
    train, holdout = partition(whole, split_key)
    return Cohort(
        _data(train, study),
        _data(holdout, study),
        tuple(train.pids),
        tuple(holdout.pids),
        whole.digest,
    )


def _data(table: Table, study: Study) -> SurvivalData:
    """The study's columns by name, in its order."""
    matrix = table.matrix()
    if lacking := matrix.lacking(study.learning.features):
        raise DataProblem(
            f"study {study.name!r} wants {listed(lacking)}, which profile {study.profile!r} gives no model"
        )
    return SurvivalData.from_matrix(matrix, study.learning.features)
