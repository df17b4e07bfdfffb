"""`haemfed demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodes.cli import options
from nodes.cli.terminal import out


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="Folder for everything; an earlier demo in it is replaced.")
    ] = Path("haemfed-demo"),
    hospitals: Annotated[int, typer.Option(min=4, max=16, help="Number of hospitals.")] = 6,
    epsilon: Annotated[float, typer.Option(min=0.1, max=20.0, help="Total ε of one patient, δ = 1e-5.")] = 2.0,
    incidents: Annotated[bool, typer.Option(help="Kill a hospital and the coordinator in the middle.")] = True,
    seeds: Annotated[int, typer.Option(min=2, max=50, help="Noise seeds per oracle.")] = 5,
    pace: Annotated[float, typer.Option(min=0.0, max=10.0, help="Shortest time between rounds, seconds.")] = 0.4,
    policy: Annotated[str, typer.Option(help="Audit policy.")] = "research",
    mode: options.ModeOption = "A",
) -> None:
    """Run the whole main job on real patients and real processes, on this machine alone."""
    from nodes.demo.run import Options, run
    from secagg.manifest import Mode

    raise typer.Exit(run(Options(directory, hospitals, epsilon, incidents, seeds, pace, policy, Mode(mode)), out))
