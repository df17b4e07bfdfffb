"""What is learned: survival models, their recalibration, their scores and their files.

Importing the package is cheap; torch is imported by `models.deepsurv`, `models.losses` and `models.training`
alone.
"""

from models.errors import ArtefactError, ConfigError, MisuseError, ModelsError, NotPerPatient

__all__ = ["ArtefactError", "ConfigError", "MisuseError", "ModelsError", "NotPerPatient"]
