"""`haemfed site`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodes import interrupts
from nodes.cli import options
from nodes.cli.terminal import out

app = typer.Typer(no_args_is_help=True)


@app.command()
def init(
    directory: Annotated[
        Path, typer.Argument(help="Folder for site.toml, policy.toml and the data; must be new or empty.")
    ],
    name: Annotated[str, typer.Option(help="Name of this hospital: a-z, 0-9 and hyphens.")],
    coordinator: Annotated[str, typer.Option(help="host:port of the coordinator.")],
) -> None:
    """Make this site's keys and a policy that refuses everything, and write the request for the coordinator."""
    from nodes.provision import create_site

    request, fingerprint = create_site(directory, name, coordinator)
    policy = directory / "data" / "policy.toml"
    out.print(f"wrote {directory / 'site.toml'} and {policy} (every refusal is on; your DPO edits it)")
    out.print(f"send {request} to the coordinator")
    out.print(f"identity fingerprint, to be read to every other hospital by telephone:\n  {fingerprint}")


@app.command()
def join(
    bundle: Annotated[Path, typer.Argument(help="The coordinator's answer.")],
    fingerprint: Annotated[str, typer.Option(help="The coordinator's fingerprint, as read out by telephone.")],
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Check and store the certificate that the coordinator sent."""
    from nodes import enrolment

    settings = options.site(config)
    enrolment.accept(
        settings.paths,
        enrolment.read_document(bundle),
        site=settings.name,
        expected=fingerprint,
        now=options.now(),
    )
    out.print(f"{settings.name}: certificate stored")


@app.command()
def check(config: options.SiteOption = Path("site.toml")) -> None:
    """Check keys, certificates, policy and ledger without sending anything."""
    from nodes.checking import check_site

    for line in check_site(options.site(config), options.now()):
        out.print(line)


@app.command()
def run(
    study: options.StudyArgument,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Take part in a study, from wherever this site stands in it."""
    interrupts.hold()
    from nodes.daemon import run_site

    raise typer.Exit(run_site(options.site(config), study))
