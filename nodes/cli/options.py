"""Options that several commands share, and reading the files they name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nodes.config import CoordinatorConfig, SiteConfig, load
from nodes.errors import ConfigError

if TYPE_CHECKING:
    from nodes.rounds import Asked

SiteOption = Annotated[Path, typer.Option("--config", "-c", help="site.toml of this hospital.", show_default=True)]
CoordinatorOption = Annotated[Path, typer.Option("--config", "-c", help="coordinator.toml.", show_default=True)]
StudyArgument = Annotated[Path, typer.Argument(help="The study file.", show_default=False)]

ModeOption = Annotated[
    Literal["A", "B"],
    typer.Option(help="A: every hospital asked uploads, or the round is lost. B: hospitals may drop out of a round."),
]


def site(path: Path) -> SiteConfig:
    """Read a site's configuration."""
    if not path.exists():
        raise ConfigError(f"{path}: does not exist; make a site with 'haemfed site init', or name it with --config")
    return load(SiteConfig, path)


def runs(path: Path) -> Path | None:
    """Folder of a site's runs; None where there is no site: a model may be used by others, too."""
    from nodes.places import Places

    return Places(load(SiteConfig, path).paths).runs if path.exists() else None


def coordinator(path: Path) -> CoordinatorConfig:
    """Read the coordinator's configuration."""
    return load(CoordinatorConfig, path)


def algorithm(
    name: Literal["lockstep", "fedavg", "fedprox", "newton"], **numbers: Any
) -> Asked | None:  # each is checked where it ends
    """The algorithm that the options ask for; None for lockstep."""
    from nodes.errors import StudyInvalid
    from nodes.rounds import Asked

    if name != "lockstep":
        return Asked(name, **numbers)
    if given := [f"--{option.replace('_', '-')}" for option, value in numbers.items() if value is not None]:
        raise StudyInvalid(f"{', '.join(given)}: lockstep has none of these; name another --algorithm, too")
    return None


def now() -> dt.datetime:
    """The present, with time zone."""
    return dt.datetime.now(dt.UTC)
