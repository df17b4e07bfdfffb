"""`haemfed synth`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nodes.cli import options
from nodes.cli.terminal import err, out

app = typer.Typer(no_args_is_help=True)
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A generator's model file.", show_default=False)]


@app.command()
def show(model: ModelArgument) -> None:
    """Print what a generator draws, and its card; nothing in the file is executed."""
    from nodes.synthesis import opened, protection

    found = opened(model)
    columns = found.generator.dictionary.columns
    out.print(f"{model.name}: {found.generator.learner}, digest {found.generator.digest}", markup=False, soft_wrap=True)
    out.print(
        f"profile {found.profile.profile} {found.profile.version}; {protection(found.card)}",
        markup=False,
        soft_wrap=True,
    )
    table = Table("variable", "kind", "levels")
    for column in columns:
        table.add_row(column.name, str(column.kind), str(column.bins))
    out.print(table, markup=False)
    out.print_json(json.dumps(found.card))


@app.command()
def sample(
    model: ModelArgument,
    patients: Annotated[int, typer.Option(help="How many synthetic patients.")],
    seed: Annotated[int, typer.Option(help="The same model, seed and version draw the same table. Not secret.")],
    output: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    variables: Annotated[
        str | None, typer.Option(help="Only these, separated by commas.", show_default="all that the model has")
    ] = None,
    complete: Annotated[bool, typer.Option("--complete", help="Every value observed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Draw synthetic patients with survival into a canonical table; a sealed or retired model is refused."""
    from nodes import sealing
    from nodes.synthesis import Asked, draw, opened

    found = opened(model)
    seal = sealing.Opened(model, found.sha256, found.generator.digest)
    for notice in sealing.check(seal, options.runs(config), options.now().date()):
        err.print(notice, markup=False, soft_wrap=True)
    names = None if variables is None else tuple(name.strip() for name in variables.split(","))
    done = draw(found, Asked(patients, seed, names, complete), output, force=force)
    out.print(f"{done.patients} synthetic patients, {done.variables} variables: {done.path}", soft_wrap=True)
    out.print(f"  {done.rejected} of {done.drawn} draws broke a clinical rule and were refused", soft_wrap=True)
    out.print(f"  {done.protection}", markup=False, soft_wrap=True)
    if vectors := ", ".join(vector.name for vector in found.profile.features):
        out.print(f"  no generator draws vectors: {vectors} is empty", soft_wrap=True)


@app.command()
def export(
    table: Annotated[Path, typer.Argument(metavar="FILE", help="A table of `haemfed synth sample`.")],
    output: Annotated[Path, typer.Option("--out", help="New folder for the files.")],
    form: Annotated[str, typer.Option("--format", help="fhir: a Bundle a patient; csv: one file.")] = "fhir",
) -> None:
    """Write synthetic patients as FHIR R4 or CSV, with their origin and a mapping file that reads them back."""
    from nodes.exporting import Form
    from nodes.synthesis import export as write

    if form not in set(Form):
        raise typer.BadParameter(f"{form} is not a format: {', '.join(Form)}", param_hint="--format")
    out.print(f"{write(table, Form(form), output)} synthetic patients: {output}", soft_wrap=True)
