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
    from models.loading import LoadedModel, Predictions
    from nodes.config import SiteConfig

app = typer.Typer(no_args_is_help=True)
ModelArgument = Annotated[Path, typer.Argument(help="A model.safetensors file.")]


@app.command()
def show(model: ModelArgument, config: options.SiteOption = Path("site.toml")) -> None:
    """Print a model's card; nothing in the file is executed."""
    import models
    from harmonize.modalities import listed
    from nodes import sealing

    loaded = models.load(model)
    names, digest = listed(loaded.model.features), loaded.model.digest
    # One long line: a digest that is cut at a terminal's width is found by nobody who looks for it.
    out.print(f"{model.name}: features {names}; weights digest {digest}", soft_wrap=True)
    if note := sealing.retirement(sealing.Opened(model, loaded.sha256, digest), options.runs(config)):
        out.print(f"retired on {note.retired}: {note.reason}", markup=False, soft_wrap=True)
    out.print(loaded.protection, markup=False, soft_wrap=True)
    out.print_json(json.dumps(loaded.card))


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
    personal: Annotated[
        bool, typer.Option("--personal", help="With the last layer refitted to this site's own patients, in memory.")
    ] = False,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Predict survival for this site's own table, another one or a Bundle; the result goes nowhere."""
    from nodes import files, predicting

    if (bundle is None) != (mapping is None) or (table is not None and bundle is not None):
        raise typer.BadParameter("give --table, or --bundle with --mapping, or neither", param_hint="--bundle")
    loaded = _usable(model, config)
    protection = predicting.REFITTED if personal else loaded.protection
    if personal:
        loaded = _personal(loaded, options.site(config), output)
    if output is not None:
        files.refuse_existing(output, force=force)
    if table is not None:
        found = predicting.for_table(loaded, table, days)
    elif bundle is not None and mapping is not None:
        found = predicting.for_bundle(loaded, options.site(config), bundle, mapping, days)
    else:
        found = predicting.for_own(loaded, options.site(config), days)
    if output is None:
        _print(found)
        out.print(f"model: {protection}", markup=False, soft_wrap=True)
    else:
        files.write(output, predicting.to_csv(found, protection), private=True)
        out.print(f"{len(found.pids)} patients, for this site only: {output}", markup=False, soft_wrap=True)


@app.command()
def export(
    model: ModelArgument,
    form: Annotated[str, typer.Option("--format", help="onnx, mlflow or pycox.", show_default=False)],
    output: Annotated[Path, typer.Option("--out", help="New file, or new folder of mlflow.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="mlflow: with the flavour onnx, too.")] = False,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Write a model in another tool's format, compared with the model before; a sealed model is refused."""
    from nodes.interchange import Format, export_model

    if form not in set(Format):
        raise typer.BadParameter(f"{form} is not a format: {', '.join(Format)}", param_hint="--format")
    if onnx and form != Format.MLFLOW:
        raise typer.BadParameter("belongs to --format mlflow", param_hint="--onnx")
    done = export_model(_usable(model, config), Format(form), output, onnx_beside=onnx)
    out.print(f"{form}: {done.path}", markup=False, soft_wrap=True)
    if done.difference is not None:
        out.print(f"  largest relative difference from the model on invented patients: {done.difference:.1e}")
    out.print(f"  {done.protection}", markup=False, soft_wrap=True)


@app.command()
def personalise(model: ModelArgument, config: options.SiteOption = Path("site.toml")) -> None:
    """Refit the last layer to this site's own training patients and print what that gains here; it never leaves."""
    from nodes import personal

    found = personal.refit(_usable(model, config), options.site(config))
    out.print(f"last layer refitted to {found.patients} training patients of this site, in memory")
    out.print(str(found.report), markup=False, soft_wrap=True)
    out.print("nothing was written; `haemfed model predict --personal` refits it and predicts", markup=False)


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


def _usable(path: Path, config: Path) -> LoadedModel:
    """Open a model that may be used at this site; say what must be said about it."""
    import models
    from nodes import sealing

    loaded = models.load(path)
    opened = sealing.Opened(path, loaded.sha256, loaded.model.digest)
    for notice in sealing.check(opened, options.runs(config), options.now().date()):
        err.print(notice, markup=False, soft_wrap=True)
    return loaded


def _personal(loaded: LoadedModel, site: SiteConfig, output: Path | None) -> LoadedModel:
    from nodes import personal

    if output is not None:
        personal.require_inside(output, site)
    return personal.refit(loaded, site).instead_of(loaded)


def _print(found: Predictions) -> None:
    table = Table("pseudonym", *[f"alive at {day:g} days" for day in found.days])
    for pid, row in zip(found.pids, found.survival, strict=True):
        table.add_row(pid, *[f"{value:.1%}" for value in row])
    out.print(table, markup=False)
