"""A released model with this hospital's own last layer: refitted in memory, looked at here, gone when the command ends.

Nothing of it is a release. It is fitted to the training patients without protection, so it is written to no file, no
sum is asked about it and nothing is charged: `models.algorithms.personal.LocalModel` keeps its parameters to itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harmonize.errors import ProfileMismatch
from harmonize.split import partition
from harmonize.table import Table
from models.algorithms.personal import Head, LocalModel, LocalReport, personalise, report
from models.data import SurvivalData
from models.errors import MisuseError
from models.loading import LoadedModel
from nodes import files
from nodes.config import SiteConfig
from nodes.errors import ConfigError, DataProblem
from nodes.places import Places, load_secrets

if TYPE_CHECKING:
    from models.predict import SurvivalModel

__all__ = ["Personalised", "refit", "require_inside"]


@dataclass(frozen=True)
class Personalised:
    """What a refit gives, for this site only.

    Args:
        model: predicts like the released one, and cannot be written.
        report: Harrell's C on this site's hold-out, before and after.
        patients: training patients of this site that it was fitted to.
    """

    model: LocalModel
    report: LocalReport
    patients: int

    def instead_of(self, loaded: LoadedModel) -> LoadedModel:
        """The opened file with this model in the released one's place, for predictions alone."""
        # It has everything that predicts and refuses everything else, so that no caller can do more with it.
        return replace(loaded, model=cast("SurvivalModel", self.model))


def refit(loaded: LoadedModel, config: SiteConfig) -> Personalised:
    """Refit the last layer on this site's own training patients.

    Args:
        loaded: a model that may be used here.
        config: the site.

    Raises:
        ConfigError: the model has no last layer that could be made personal.
        DataProblem: the table was made under another profile than the model's.
        StorageProblem: there is no table.
    """
    places, profile = Places(config.paths), loaded.profile
    path = places.table(profile.profile)
    try:
        whole = Table.from_parquet(files.read(path), profile)
    except ProfileMismatch as error:
        raise DataProblem(f"{path}: {error}; run `haemfed harmonize run` again") from error
    train, holdout = (_data(side, loaded) for side in partition(whole, load_secrets(places).split))
    try:
        model = personalise(loaded.model, train, Head())
    except MisuseError as error:
        raise ConfigError(f"this model is not personalised: {error}") from error
    return Personalised(model, report(loaded.model, model, holdout), len(train))


def require_inside(output: Path, config: SiteConfig) -> None:
    """Refuse to write a personal prediction anywhere but into the site's own data directory.

    Raises:
        ConfigError: the file lies elsewhere.
    """
    root = config.data_dir.resolve()
    if not output.resolve().is_relative_to(root):
        raise ConfigError(f"what a personal model predicts stays below {root}: name a file there, or leave --out away")


def _data(side: Table, loaded: LoadedModel) -> SurvivalData:
    return SurvivalData.from_matrix(side.matrix(), loaded.model.features)
