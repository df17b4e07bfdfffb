"""`haemfed model`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nodes.cli import options
from nodes.cli.terminal import err, out

if TYPE_CHECKING:
    from nodes.predicting import Predictions

app = typer.Typer(no_args_is_help=True)
ModelArgument = Annotated[Path, typer.Argument(help="A model.safetensors file.")]


@app.command()
def show(model: ModelArgument, config: options.SiteOption = Path("site.toml")) -> None:
    """Print a model's card; nothing in the file is executed."""
    import hashlib

    from models.artefact import from_bytes
    from models.container import read
    from nodes import sealing

    data = read(model)
    loaded, card = from_bytes(data)
    out.print(f"{model.name}: features {', '.join(loaded.features)}; weights digest {loaded.digest}")
    opened = sealing.Opened(model, hashlib.sha256(data).hexdigest(), loaded.digest)
    if note := sealing.retirement(opened, options.runs(config)):
        out.print(f"retired on {note.retired}: {note.reason}", markup=False, soft_wrap=True)
    out.print_json(json.dumps(card))


@app.command()
def predict(
    model: ModelArgument,
    days: Annotated[list[float] | None, typer.Option(help="Horizon in days; repeat as needed.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="A canonical table (Parquet).", show_default="this site's own")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="A FHIR R4 Bundle instead, with --mapping.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="Mapping file that says how the Bundle is read.")] = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="CSV file to write instead of printing: patient data.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Predict survival for this site's own table, another one or a Bundle; the result goes nowhere."""
    import hashlib

    from models.artefact import from_bytes
    from models.container import read
    from nodes import files, predicting, sealing

    if (bundle is None) != (mapping is None) or (table is not None and bundle is not None):
        raise typer.BadParameter("give --table, or --bundle with --mapping, or neither", param_hint="--bundle")
    data = read(model)
    loaded, card = from_bytes(data)
    opened = sealing.Opened(model, hashlib.sha256(data).hexdigest(), loaded.digest)
    for notice in sealing.check(opened, options.runs(config), options.now().date()):
        err.print(notice, markup=False, soft_wrap=True)
    if output is not None:
        files.refuse_existing(output, force=force)
    if table is not None:
        matrix = predicting.table_matrix(table, card)
    elif bundle is not None and mapping is not None:
        matrix = predicting.bundle_matrix(options.site(config), bundle, mapping, card)
    else:
        matrix = predicting.own_matrix(options.site(config), card)
    found = predicting.predict(loaded, matrix, days)
    if output is None:
        _print(found)
    else:
        files.write(output, predicting.to_csv(found), private=True)
        out.print(f"{len(found.pids)} patients, for this site only: {output}", markup=False, soft_wrap=True)


@app.command()
def retire(
    model: Annotated[str, typer.Argument(metavar="RUN|FILE", help="First characters of a run, its folder, or a file.")],
    reason: Annotated[str, typer.Option(help="Why, in one line; whoever tries to use it reads that.")],
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Take a model out of use at this site: predict and sample refuse it from now on."""
    from models.container import read
    from nodes import sealing

    path = sealing.found(model, options.runs(config))
    opened = sealing.opened(path, read(path))
    note, new = sealing.retire(path, opened.digest, reason, options.now().date())
    done = "retired" if new else "was retired before"
    out.print(f"{path}: {done}, {note.retired}: {note.reason}", markup=False, soft_wrap=True)


def _print(found: Predictions) -> None:
    table = Table("pseudonym", *[f"alive at {day:g} days" for day in found.days])
    for pid, row in zip(found.pids, found.survival, strict=True):
        table.add_row(pid, *[f"{value:.1%}" for value in row])
    out.print(table, markup=False)
