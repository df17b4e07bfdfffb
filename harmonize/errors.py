"""Everything harmonize can refuse, split by who must act.

HarmonizeError
├── MisuseError            the calling code broke a contract: a bug
├── ConfigError            the operator's files are wrong
│   ├── ProfileError       a profile does not parse or fails the linter
│   └── MappingError       a mapping file does not parse, or does not fit its source
├── SourceError            the hospital's data cannot be read (single bad values are issues, not errors)
├── ProfileMismatch        a table was made under another profile than the one asked for
├── TableError             a table file is not one of ours, or was changed
├── KaryotypeError         (harmonize.karyotype) a text gives no karyotype: an issue where it is caught
└── NotReady               a table is too small or too sparse to join a study

Every message is one line, names the file and the line or field, says the way out, and holds no patient value.
"""

__all__ = [
    "ConfigError",
    "HarmonizeError",
    "MappingError",
    "MisuseError",
    "NotReady",
    "ProfileError",
    "ProfileMismatch",
    "SourceError",
    "TableError",
]


class HarmonizeError(Exception):
    """Base class of all errors of this package."""


class MisuseError(HarmonizeError):
    """The calling code broke a documented contract."""


class ConfigError(HarmonizeError):
    """A file that a person wrote for us is wrong."""


class ProfileError(ConfigError):
    """A profile does not parse, or the linter refuses it."""


class MappingError(ConfigError):
    """A mapping file does not parse, or names what its source does not have."""


class SourceError(HarmonizeError):
    """A source cannot be read, or is too broken to be trusted: no table is made from it."""


class ProfileMismatch(HarmonizeError):  # noqa: N818  reads as the fact it states
    """A table was made under another profile."""


class TableError(HarmonizeError):
    """A file is not a harmonised table, or does not hold what its profile promises."""


class NotReady(HarmonizeError):  # noqa: N818  reads as the fact it states
    """A table is too small or too sparse for a study. Local: it never crosses the wire."""
