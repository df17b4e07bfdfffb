"""The reference pages that are generated from the code: ``python -m nodes.reference docs/reference``.

A test holds the committed pages to this output, so that a key, a default or an exit status cannot change
without its page.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from nodes import errors, issue_pages, logs, preset_pages, profile_pages
from nodes.config import CoordinatorConfig, SiteConfig
from nodes.policy import Policy

__all__ = ["main", "pages"]

_GENERATED: Final = "<!-- Generated from the code by `make docs`; a test compares it. -->\n\n"
_KINDS: Final = {str: "text", bool: "true or false", int: "whole number", float: "number", dict: "table"}
_BOUNDS: Final = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_EXAMPLE: Final = """\
minimum_roster = 4
minimum_collusion = 1
minimum_cohort = 20
allowed_profiles = ["aml_core"]
allowed_query_kinds = [
    "gradient", "breslow", "concordance", "calibration",
    "score-histogram-members", "score-histogram-nonmembers",
]
minimum_suite = "X25519-ML-KEM-768-HKDF-SHA256-AES-256-CTR"

[accounts.training]
max_epsilon_per_study = 2.0
max_epsilon_total = 6.0
delta = 1e-5

[accounts.holdout]
max_epsilon_per_study = 2.0
max_epsilon_total = 6.0
delta = 1e-5

[peers]
st-elsewhere = "375P-OK7B-BUC7-VXM7-XPNA-V2PX-65YR-TVW5"
"""


def pages() -> Mapping[str, str]:
    """Return every generated page by file name."""
    return {
        "configuration.md": _configuration(),
        "exit-codes.md": _exit_codes(),
        "issues.md": issue_pages.page(_GENERATED),
        "log-fields.md": _log_fields(),
        "presets.md": preset_pages.page(_GENERATED),
        "profiles.md": profile_pages.page(_GENERATED),
    }


def main(arguments: list[str]) -> int:
    """Write the pages into the folder that is the only argument."""
    folder = Path(arguments[0])
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


def _exit_codes() -> str:
    rows = re.findall(r"^(\d+) +(\S+) +(.+)$", errors.__doc__ or "", re.MULTILINE)
    lines = [f"| {code} | {'' if name == '--' else f'`{name}`'} | {meaning} |" for code, name, meaning in rows]
    return (
        "# Exit codes\n\n"
        + _GENERATED
        + "Every `haemfed` command ends with one of these. An error is one line on standard error that names "
        "the thing and the way out; a number keeps its meaning in every later version.\n\n"
        "| Code | Error | Meaning |\n|---:|---|---|\n" + "\n".join(lines) + "\n"
    )


def _log_fields() -> str:
    lines = [f"| `{name}` | {meaning} |" for name, meaning in sorted(logs.FIELDS.items())]
    return (
        "# Log fields\n\n"
        + _GENERATED
        + "A log line has `timestamp`, `level`, `event` and fields of this list. Anything else is dropped; "
        "`dropped` says how many were. Texts of exceptions and of other libraries are never written.\n\n"
        "| Field | Meaning |\n|---|---|\n" + "\n".join(lines) + "\n"
    )


def _configuration() -> str:
    refusals = (
        "What this hospital refuses; it lies in the site's data directory and is written by its data "
        "protection officer. **A key that is not set refuses.**"
    )
    preface = (
        "All files are TOML. An unknown key is an error. Deadlines, privacy parameters and the hospitals of "
        "a study stand in the study itself, which every hospital signs.\n"
    )
    return (
        f"# Configuration\n\n{_GENERATED}{preface}"
        + _section("site.toml", "One hospital's daemon.", SiteConfig)
        + _section("coordinator.toml", "The blind adder.", CoordinatorConfig)
        + _section("policy.toml", refusals, Policy)
        + f"\nA complete `policy.toml`:\n\n```toml\n{_EXAMPLE}```\n"
    )


def _section(name: str, text: str, model: type[BaseModel]) -> str:
    head = "| Key | Value | Unit | Default | Meaning |\n|---|---|---|---|---|\n"
    return f"\n## `{name}`\n\n{text}\n\n{head}" + "".join(f"{row}\n" for row in _rows(model))


def _rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _rows(kind, f"{prefix}{name}.")
        else:
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            value = str(extra.get("kind") or _kind(kind)) + _bounds(info)
            cells = (f"`{prefix}{name}`", value, extra.get("unit", ""), _default(info), info.description)
            yield f"| {' | '.join(map(str, cells))} |"


def _kind(annotation: Any) -> str:
    if get_origin(annotation) in {Union, UnionType}:
        return _kind(next(arm for arm in get_args(annotation) if arm is not type(None)))
    if get_origin(annotation) is tuple:
        return "list of texts"
    if hasattr(annotation, "__metadata__"):
        return _kind(annotation.__origin__)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return " or ".join(f'`"{member}"`' for member in annotation)
    return _KINDS[get_origin(annotation) or annotation]


def _bounds(info: FieldInfo) -> str:
    found = [
        f"{sign} {getattr(limit, key)}"
        for limit in info.metadata
        for key, sign in _BOUNDS.items()
        if hasattr(limit, key)
    ]
    return f", {', '.join(found)}" if found else ""


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required"
    if info.default in (None, {}):
        return "unset"
    if isinstance(info.default, bool):
        return f"`{str(info.default).lower()}`"
    return f'`"{info.default}"`' if isinstance(info.default, str) else f"`{info.default}`"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
