"""`haemfed harmonize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodes.cli import options
from nodes.cli.terminal import out

app = typer.Typer(no_args_is_help=True)


@app.command()
def lint(profile: Annotated[str, typer.Argument(help="Name of a shipped profile, or a YAML file.")]) -> None:
    """Check a profile and print its digest."""
    from harmonize.profile import load

    loaded = load(profile)
    out.print(f"{loaded.profile} {loaded.version}: {len(loaded.variables)} variables, digest {loaded.digest}")


@app.command()
def run(
    mapping: Annotated[Path, typer.Argument(help="Mapping file; its folder is the source folder.")],
    profile: Annotated[str, typer.Option(help="Profile to harmonise to.")] = "aml",
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Build the canonical table and the quality report; both stay at this site."""
    from nodes.files import lock
    from nodes.harmonising import harmonise
    from nodes.policy import read_policy

    settings = options.site(config)
    with lock(settings.data_dir):
        done = harmonise(settings, mapping, profile, read_policy(settings.paths.policy))
    out.print(f"{settings.name}: {done.patients} patients, table digest {done.digest[:16]}")
    out.print(f"quality report (local): {done.report}")
