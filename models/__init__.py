"""What is learned: survival models, their recalibration, their scores and their files.

Importing the package is cheap; torch is imported by `models.deepsurv`, `models.losses` and `models.training`
alone. `load` opens a model file for use, without torch and pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.errors import ArtefactError, ConfigError, MisuseError, ModelsError, NotPerPatient

if TYPE_CHECKING:
    from pathlib import Path

    from models.loading import LoadedModel

__all__ = ["ArtefactError", "ConfigError", "MisuseError", "ModelsError", "NotPerPatient", "load"]


def load(path: Path | str) -> LoadedModel:
    """Open a model file; nothing in it is executed.

    Args:
        path: a model.safetensors of a study.

    Returns:
        the model with its card; `predict` takes a canonical table, `predict_bundle` a FHIR Bundle.

    Raises:
        ArtefactError: it cannot be read, is damaged, edited, too large or of another format.
    """
    from models import loading  # noqa: PLC0415 - importing the package stays cheap

    return loading.load(path)
