"""`haemfed harmonize`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nodes.cli import options
from nodes.cli.terminal import err, out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harmonize.reporting.quality import Quality
    from nodes.explaining import Explanation

app = typer.Typer(no_args_is_help=True)

ProfileOption = Annotated[
    str | None,
    typer.Option(help="Profile of the report: a name or a YAML file.", show_default="the only one there is"),
]
_LONG = 4 << 20  # bytes: shorter inputs are read before a bar could be drawn


@app.command()
def lint(profile: Annotated[str, typer.Argument(help="Name of a shipped profile, or a YAML file.")]) -> None:
    """Check a profile and print its digest."""
    from harmonize.profile import load

    loaded = load(profile)
    out.print(f"{loaded.profile} {loaded.version}: {len(loaded.variables)} variables, digest {loaded.digest}")


@app.command()
def propose(
    file: Annotated[Path, typer.Argument(metavar="CSV", help="A file of which only its header is known.")],
    profile: Annotated[str, typer.Option(help="Profile that the study uses: a name or a YAML file.")],
) -> None:
    """Print the skeleton of a mapping file for a CSV; every proposal is to be checked by a person."""
    from nodes.proposing import skeleton

    sys.stdout.write(skeleton(file, profile))


@app.command()
def export(
    table: Annotated[Path, typer.Argument(help="A canonical table (Parquet), as a synthetic one.")],
    folder: Annotated[Path, typer.Argument(help="New folder for the files.")],
    profile: Annotated[str, typer.Option(help="Profile of the table: a name or a YAML file.")],
    form: Annotated[str, typer.Option("--format", help="fhir: a Bundle a patient; csv: one file.")] = "fhir",
    system: Annotated[str, typer.Option(help="Identifier system of the exported patients.")] = "urn:haemfed:synthetic",
) -> None:
    """Write a table as FHIR R4 or CSV, with a mapping file that reads it back. Dates are invented, see the guide."""
    from harmonize.profile import load
    from nodes.exporting import Form, export_table

    if form not in set(Form):
        raise typer.BadParameter(f"{form} is not a format: {', '.join(Form)}", param_hint="--format")
    count = export_table(table, profile, Form(form), system, folder)
    out.print(f"{count} patients: {folder}", soft_wrap=True)
    if vectors := ", ".join(vector.name for vector in load(profile).features):
        out.print(f"vectors have no place in {form} and stay behind: {vectors}", soft_wrap=True)
    out.print("an export of real patients is patient data: it belongs where the source lies", soft_wrap=True)


@app.command()
def views(
    profile: Annotated[str, typer.Argument(help="Name of a shipped profile, or a YAML file.")],
    folder: Annotated[Path, typer.Argument(help="New folder for the files.")],
) -> None:
    """Write the profile's SQL-on-FHIR ViewDefinitions."""
    from nodes.exporting import export_views

    out.print(f"{export_views(profile, folder)} views: {folder}", soft_wrap=True)


@app.command()
def run(
    mapping: Annotated[Path, typer.Argument(help="Mapping file; its folder is the source folder.")],
    profile: Annotated[
        str | None, typer.Option(help="A name or a YAML file.", show_default="the one that the mapping file names")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Validate every FHIR resource against FHIR R4, too: slow, adds findings.")
    ] = False,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Build the canonical table and the quality report; both stay at this site."""
    from nodes.files import lock
    from nodes.harmonising import harmonise, input_bytes
    from nodes.policy import read_policy

    settings = options.site(config)
    policy = read_policy(settings.paths.policy)
    with lock(settings.data_dir), _progress(lambda: input_bytes(mapping, profile)) as read:
        done = harmonise(settings, mapping, profile, policy, read, strict=strict)
    out.print(f"{settings.name}: {done.patients} patients, table digest {done.digest[:16]}")
    _summarise(done.quality, most=5)
    out.print(f"quality report (local): {done.report}", soft_wrap=True)


@app.command()
def report(
    profile: ProfileOption = None,
    shareable: Annotated[
        bool, typer.Option("--shareable", help="Rounded, small counts hidden, nothing of your files: to hand over.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead (local: a FHIR OperationOutcome).")] = False,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Show the quality report of the last run, or write the one that may be handed over."""
    from nodes import harmonising
    from nodes.places import Places

    places = Places(options.site(config).paths)
    found = harmonising.stored_profile(places, profile)
    for line in harmonising.failed(places, found) or ():
        # Beside JSON and a path, never in them: somebody else's program reads these.
        (err if json or shareable else out).print(line, markup=False, soft_wrap=True)
    if shareable:
        page, data = harmonising.share(places, found)
        if json:
            sys.stdout.write(data.decode() + "\n")
        else:
            out.print(f"to hand over, by a person (no program sends it): {page}", soft_wrap=True)
        return
    quality = harmonising.stored_report(places, found)
    if json:
        sys.stdout.write(quality.operation_outcome_json().decode() + "\n")
        return
    flow = quality.flow
    out.print(f"{found.title}: {flow.usable} of {flow.seen} patients, {flow.deaths} deaths", markup=False)
    for code, count in flow.left_out.items():
        out.print(f"  left out, {code}: {count}")
    _summarise(quality, most=20)
    out.print(f"quality report (local): {places.quality(found.profile, 'html')}", soft_wrap=True)


@app.command()
def explain(
    patient: Annotated[str, typer.Argument(help="Pseudonym, or this hospital's own patient identifier.")],
    variable: Annotated[str, typer.Argument(help="A variable or outcome of the profile, or index_date.")],
    profile: ProfileOption = None,
    show_value: Annotated[
        bool, typer.Option("--show-value", help="Print the value, too; on a terminal only, never into a file or pipe.")
    ] = False,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Say where one cell of the table came from: file, line and field, its state, the rules. Not the value."""
    from nodes import harmonising
    from nodes.explaining import explain as look
    from nodes.places import Places

    if show_value and not out.is_terminal:
        raise typer.BadParameter("values are shown on a terminal only, never written to a file or a pipe")
    settings = options.site(config)
    found = harmonising.stored_profile(Places(settings.paths), profile)
    _print_explanation(look(settings, found, patient, variable), show_value=show_value)


def _print_explanation(found: Explanation, *, show_value: bool) -> None:
    from harmonize.reporting.tally import shown

    state = found.state.name.lower().replace("_", "-")
    meaning = f": {found.meaning}" if found.meaning else ""
    lines = [f"{found.variable}: {found.title}", f"patient {found.pid}", f"state   {state}{meaning}"]
    if found.place is None:
        lines.append("source  says nothing about it")
    else:
        field = f", field {shown(found.place.field)}" if found.place.field else ""
        where = f" line or entry {found.place.line}" if found.place.line else ""
        lines.append(f"source  {shown(found.place.file)}{where}{field}")
    lines += [f"rule    {rule}" for rule in found.rules]
    if show_value:
        lines.append(f"value   {found.value or 'none'}")
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def _summarise(quality: Quality, most: int) -> None:
    """The findings that something was lost to, or that somebody should look at, worst first."""
    from harmonize.reporting.tally import shown

    found = [finding for finding in quality.findings if finding.severity != "information"]
    for each in found[:most]:
        where = " ".join(filter(None, (each.variable, shown(each.field))))
        line = f"  {each.severity}: {each.code}{f' ({where})' if where else ''}: {each.count}"
        out.print(line, markup=False, soft_wrap=True)
    if len(found) > most:
        out.print(f"  and {len(found) - most} more kinds of findings in the report")
    for variable in quality.variables:
        if variable.too_sparse:
            share = 1 - variable.usable / variable.rows
            out.print(f"  {variable.name}: {share:.0%} missing, a study accepts {variable.max_missing:.0%}")


@contextmanager
def _progress(size: Callable[[], int | None]) -> Iterator[Callable[[int], None] | None]:
    """A bar by bytes read, on a terminal and for long inputs; else nothing, not even counting."""
    total = size() if err.is_terminal else 0
    if total is not None and total < _LONG:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("reading", total=total)

        def read(count: int) -> None:
            bar.advance(task, count)
            if bar.tasks[0].finished:
                bar.update(task, description="building the table")

        yield read
