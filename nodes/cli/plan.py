"""`haemfed study plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from nodes.cli import options
from nodes.cli.terminal import err, out
from nodes.errors import ConfigError

Number = TypeVar("Number", int, float)

if TYPE_CHECKING:
    from nodes.planning import Plan, Range, View
    from nodes.planning_rounds import Averaged


def plan(
    sizes: Annotated[
        str, typer.Option(help="Patients of each hospital, as declared: 420,250,160,110,70,40.", show_default=False)
    ],
    epsilon: Annotated[str, typer.Option(help="Values of ε to compare, for example 0.5,1,2,4.")] = "0.5,1,2,4",
    delta: Annotated[float, typer.Option(help="δ of every ε.")] = 1e-5,
    collusion: Annotated[
        int | None, typer.Option(help="Hospitals whose noise is not counted on; default: as `study draft`.")
    ] = None,
    profile: Annotated[str, typer.Option(help="Data profile: its columns and public ranges.")] = "aml_core",
    preset: Annotated[str, typer.Option(help="Model and training constants.")] = "aml-small",
    concordance: Annotated[
        float, typer.Option(help="C-index that a perfect model of these columns would reach.")
    ] = 0.7,
    survival: Annotated[float, typer.Option(help="Median survival, years.")] = 1.0,
    follow_up: Annotated[float, typer.Option(help="Median potential follow-up, years.")] = 3.0,
    missing: Annotated[float, typer.Option(help="Share of values that were not measured.")] = 0.1,
    table: Annotated[
        Path | None,
        typer.Option(help="Public cohort instead: a CSV with the columns days, event (0 or 1) and numbers."),
    ] = None,
    runs: Annotated[int | None, typer.Option(help="Repetitions; default: as many as half a minute allows.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same plan.")] = 0,
    target: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the plan as JSON.")] = None,
    mode: options.ModeOption = "A",
    algorithm: Annotated[
        Literal["lockstep", "fedavg", "fedprox", "newton"],
        typer.Option(help="fedavg, fedprox: with noise in each local step, beside lockstep. newton has no ε to plan."),
    ] = "lockstep",
    rounds: Annotated[int | None, typer.Option(help="fed…: sums of training. Default: 20.")] = None,
    local_steps: Annotated[int | None, typer.Option(help="fed…: gradient steps before each sum.")] = None,
    local_rate: Annotated[float | None, typer.Option(help="fed…: step size of these.")] = None,
    server_rate: Annotated[float | None, typer.Option(help="fed…: what a sum of changes is multiplied by.")] = None,
    bound: Annotated[float | None, typer.Option(help="fed…: norm that one hospital's change is cut to.")] = None,
    proximal: Annotated[float | None, typer.Option(help="fedprox: μ, the pull back to the common model.")] = None,
) -> None:
    """Say what a federation could learn at which ε, on invented patients, before anything is spent."""
    import json

    from models.presets import preset as find
    from nodes import files
    from nodes.planning import Asked
    from nodes.planning import plan as simulate
    from nodes.planning_source import described, read_table
    from secagg.manifest import Mode

    asked = Asked(
        sizes=_list("--sizes", sizes, int),
        epsilons=_list("--epsilon", epsilon, float),
        preset=find(preset),
        delta=delta,
        collusion=collusion,
        mode=Mode(mode),
        seed=seed,
        runs=runs,
        algorithm=options.algorithm(
            algorithm,
            rounds=rounds,
            local_steps=local_steps,
            local_rate=local_rate,
            server_rate=server_rate,
            bound=bound,
            proximal=proximal,
        ),
    )
    patients = described(profile, concordance, survival, follow_up, missing) if table is None else read_table(table)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("training models", total=None)
        found = simulate(asked, patients, lambda done, of: progress.update(task, completed=done, total=of))
    if target is not None:
        files.write(target, json.dumps(found.to_json(), indent=1, ensure_ascii=False).encode() + b"\n")
    _show(found)
    if target is not None:
        out.print(f"wrote {target}")


def _list(option: str, text: str, kind: type[Number]) -> tuple[Number, ...]:
    """Read numbers between commas."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        example = "420,250,160,110" if kind is int else "0.5,1,2"
        raise ConfigError(f"{option} {text!r}: write numbers with commas between them, for example {example}") from None


def _show(plan: Plan) -> None:
    from nodes.planning import LEFT_OUT

    asked, n = plan.asked, len(plan.asked.sizes)
    out.print(
        "[bold]A simulation.[/] " + _about(plan.source) + " Nothing was read from a hospital, nothing is charged."
    )
    out.print(
        f"{n} hospitals, {sum(asked.sizes)} patients, {sum(asked.training)} of them train; preset {asked.preset.name}, "
        f"mode {asked.mode.value}, c = {asked.uncounted}, {plan.runs} runs, seed {asked.seed}"
    )
    averaged = asked.averaged
    columns = ["ε", "federation", "noise of every site", *([] if averaged is None else [averaged.name])]
    scores = Table(*columns, title="Expected C-index: mean (10 to 90 % of the runs)")
    for row in plan.rows:
        ranges = [row.federation, row.site_noise, *([] if row.averages is None else [row.averages.scores])]
        scores.add_row(f"{row.epsilon:g}", *map(_range, ranges))
    out.print(scores)
    open_ = Table("without privacy", "C-index")
    open_.add_row(f"everybody in one place, {sum(asked.training)} train", _range(plan.pooled))
    for size, found in plan.alone:
        open_.add_row(f"a hospital of {size} alone", _range(found))
    out.print(open_)
    out.print(_against(plan, "the federation", [(row.views, row.multipliers) for row in plan.rows]))
    if averaged is not None:
        _show_averages(plan, averaged)
    out.print("Left out:")
    for what in LEFT_OUT:
        out.print(f"  {what}")


def _show_averages(plan: Plan, averaged: Averaged) -> None:
    steps, found = averaged.averaging.local_steps, [row.averages for row in plan.rows if row.averages is not None]
    out.print(
        f"{averaged.name}: {averaged.preset.steps} rounds of {steps} local steps at each hospital, each with the whole "
        f"noise of that hospital; an upload is charged as one Gaussian of the local steps' multiplier / √{steps}"
    )
    each = f"each of {steps} local steps"
    out.print(_against(plan, averaged.name, [(row.views, row.multipliers | {each: row.step}) for row in found]))


def _against(plan: Plan, who: str, rows: Sequence[tuple[Sequence[View], Mapping[str, float]]]) -> Table:
    """ε against others, then the noise behind it; a column for each ε of the plan."""
    title = f"{who}: one training patient's ε at δ = {plan.asked.delta:g} (at δ = 1e-6), add or remove one"
    table = Table("against", *(f"ε = {row.epsilon:g}" for row in plan.rows), title=title)
    for views in zip(*(views for views, _ in rows), strict=True):
        table.add_row(views[0].against, *(f"{each.epsilon:.2f} ({each.epsilon_6:.2f})" for each in views))
    for kind in rows[0][1]:
        table.add_row(f"noise multiplier: {kind}", *(f"{multipliers[kind]:.2f}" for _, multipliers in rows))
    return table


def _about(source: dict[str, object]) -> str:
    if source["patients"] != "invented":
        return f"Patients are {source['patients']} ({source['rows']} rows): what fits them may not fit yours."
    return (
        f"Patients are invented: {source['columns']} columns, a perfect model's C-index "
        f"{source['concordance_of_true_risk']:g}, median survival {source['median_survival_days']:.0f} days."
    )


def _range(found: Range) -> str:
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"
