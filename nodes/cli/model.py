"""`haemfed model`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nodes.cli import options
from nodes.cli.terminal import out

app = typer.Typer(no_args_is_help=True)
ModelArgument = Annotated[Path, typer.Argument(help="A model.safetensors file.")]


@app.command()
def show(model: ModelArgument) -> None:
    """Print a model's card; nothing in the file is executed."""
    from models.artefact import load

    loaded, card = load(model)
    out.print(f"{model.name}: features {', '.join(loaded.features)}; weights digest {loaded.digest}")
    out.print_json(json.dumps(card))


@app.command()
def predict(
    model: ModelArgument,
    days: Annotated[list[float] | None, typer.Option(help="Horizon in days; repeat as needed.")] = None,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Predict survival for this site's own table; the result is printed here and goes nowhere."""
    import numpy as np

    from models.artefact import load
    from nodes.predicting import own_matrix

    loaded, card = load(model)
    matrix = own_matrix(options.site(config), card)
    times = np.array(days or [365.25, 730.5])
    survival = loaded.survival(matrix.x, matrix.observed, times)
    table = Table("pseudonym", *[f"alive at {day:g} days" for day in times])
    for pid, row in zip(matrix.pid, survival, strict=True):
        table.add_row(pid, *[f"{value:.1%}" for value in row])
    out.print(table)
