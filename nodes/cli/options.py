"""Options that several commands share, and reading the files they name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

import typer

from nodes.config import CoordinatorConfig, SiteConfig, load
from nodes.errors import ConfigError

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


def now() -> dt.datetime:
    """The present, with time zone."""
    return dt.datetime.now(dt.UTC)
