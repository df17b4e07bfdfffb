"""What can go wrong while a model is learned, stored or used.

ModelsError
├── MisuseError       our own code broke a contract (wrong shape, wrong length, wrong type)
│   └── NotPerPatient a loss that is not a sum over patients was offered for private training (also TypeError)
├── ConfigError       the study or the operator asked for something impossible; the message names a way out
└── ArtefactError     a model file that we will not open
    └── OtherKind     one of ours, whose model is of another kind than the one asked for
"""

from __future__ import annotations


class ModelsError(Exception):
    """Base class of this package's errors. Messages carry names and sizes, never data."""


class MisuseError(ModelsError):
    """A caller inside haemfed broke a contract."""


class NotPerPatient(MisuseError, TypeError):  # noqa: N818 - reads as a sentence at the raise
    """A loss without a per-patient form cannot be trained under differential privacy."""


class ConfigError(ModelsError):
    """A study or an operator asked for something that cannot be; the message says what to change."""


class ArtefactError(ModelsError):
    """A model file is damaged, too large, of an unknown format or not ours."""


class OtherKind(ArtefactError):  # noqa: N818 - reads as a sentence at the raise
    """A model file of ours, of another kind than the one asked for; the message says which commands take it."""
