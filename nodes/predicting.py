"""A site's own patients as a model's card asks for them."""

from __future__ import annotations

from typing import Any

from harmonize.errors import ProfileMismatch
from harmonize.profile import load
from harmonize.table import Matrix, Table
from nodes.config import SiteConfig
from nodes.errors import DataProblem
from nodes.files import read
from nodes.places import Places


def own_matrix(config: SiteConfig, card: dict[str, Any]) -> Matrix:
    """Read this site's table under the profile that a model was trained with.

    Raises:
        DataProblem: the model needs another profile than this version ships or the table has.
        StorageProblem: there is no table.
    """
    profile = load(str(card["profile"]["name"]))
    wanted = str(card["profile"]["digest"])
    if profile.digest != wanted:
        raise DataProblem(
            f"the model needs profile {profile.profile!r} with digest {wanted[:16]}…, this version ships another"
        )
    path = Places(config.paths).table(profile.profile)
    try:
        return Table.from_parquet(read(path), profile).matrix()
    except ProfileMismatch as error:
        raise DataProblem(f"{path}: {error}; run `haemfed harmonize run` again") from error
