"""`haemfed score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nodes.cli import options
from nodes.cli.terminal import out

if TYPE_CHECKING:
    from models.prognostic import Score
    from nodes.scoring import Scored

app = typer.Typer(no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="One of `haemfed score list`.", show_default=False)]


@app.command(name="list")
def list_() -> None:
    """Name the published scores that can be computed."""
    from models.prognostic import SCORES

    for each in SCORES.values():
        out.print(f"{each.name:12} {each.title} ({each.version}): {each.diseases}", markup=False, soft_wrap=True)


@app.command()
def show(name: NameArgument) -> None:
    """Print a score's table, its source, and the variables of a profile that it reads."""
    found = _known(name)
    out.print(f"{found.title}, {found.version}", markup=False, soft_wrap=True)
    out.print(f"for {found.diseases}", markup=False, soft_wrap=True)
    out.print(f"{found.citation}. https://doi.org/{found.doi}", markup=False, soft_wrap=True)
    table = Table("variable", "value", "points")
    for row in found.table:
        table.add_row(row.variable, row.value, row.points)
    out.print(table, markup=False)
    inputs = Table("input", "unit", "what it is")
    for each in found.inputs:
        inputs.add_row(each.name, each.unit, each.title if each.required else f"{each.title} (may be absent)")
    out.print(inputs, markup=False)
    for note in found.notes:
        out.print(f"- {note}", markup=False, soft_wrap=True)


@app.command()
def run(
    name: NameArgument,
    output: Annotated[Path, typer.Option("--out", help="CSV file to write: patient data, it stays at this site.")],
    profile: Annotated[
        str | None,
        typer.Option(help="Profile of the table: a name or a YAML file.", show_default="the only one there is"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Compute a score for this site's own table; the file stays here, and counts are printed here."""
    from nodes.scoring import run as compute

    _summarise(name, compute(options.site(config), _known(name), profile, output, force=force))


def _known(name: str) -> Score:
    from models.prognostic import SCORES

    if name.lower() not in SCORES:
        raise typer.BadParameter(f"{name} is not a score: {', '.join(SCORES)}", param_hint="NAME")
    return SCORES[name.lower()]


def _summarise(name: str, scored: Scored) -> None:
    out.print(f"{name.lower()}: {scored.patients} patients", markup=False)
    for label, count in scored.categories.items():
        out.print(f"  {label}: {count}", markup=False)
    if scored.points_open:
        out.print(f"  of these, category known in spite of a gap, points not: {scored.points_open}")
    out.print(f"  not computable: {scored.not_given}")
    if scored.excluded:
        out.print(f"    the score is not meant for them: {scored.excluded}")
    for variable, count in scored.missing.items():
        out.print(f"    {variable} not known: {count}", markup=False)
    out.print(f"patient data, for this site only: {scored.path}", markup=False, soft_wrap=True)
