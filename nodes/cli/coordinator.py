"""`haemfed coordinator`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodes.cli import options
from nodes.cli.terminal import out

app = typer.Typer(no_args_is_help=True)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Folder for coordinator.toml and its data; must be new or empty.")],
    consortium: Annotated[str, typer.Option(help="Name on the certificate authority.")] = "haemfed consortium",
    listen: Annotated[str, typer.Option(help="host:port to listen on.")] = "0.0.0.0:8443",
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address that sites will use; repeat as needed.")
    ] = None,
) -> None:
    """Make the TLS authority, the server certificate and coordinator.toml."""
    from nodes.provision import create_coordinator

    fingerprint = create_coordinator(
        directory, consortium, listen, tuple(host or ["localhost", "127.0.0.1"]), options.now()
    )
    out.print(f"wrote {directory / 'coordinator.toml'}")
    out.print(f"authority fingerprint, to be read to every site by telephone:\n  {fingerprint}")


@app.command()
def admit(
    request: Annotated[Path, typer.Argument(help="Request file of a site.")],
    bundle: Annotated[Path, typer.Option("--out", "-o", help="Where to write the answer.")],
    config: options.CoordinatorOption = Path("coordinator.toml"),
) -> None:
    """Answer a site's request with a TLS certificate. Membership is decided by the sites, not here."""
    from nodes import enrolment, files, tls

    authority = tls.load_authority(options.coordinator(config).paths)
    admitted = enrolment.admit(authority, enrolment.read_document(request), options.now())
    files.write(bundle, admitted.bundle)
    out.print(f"admitted {admitted.site}, identity {admitted.fingerprint}; send {bundle} back to it")


@app.command()
def run(
    study: options.StudyArgument,
    config: options.CoordinatorOption = Path("coordinator.toml"),
) -> None:
    """Serve one study until it ends."""
    from nodes.serving import serve_study

    raise typer.Exit(serve_study(options.coordinator(config), study, options.now()))
