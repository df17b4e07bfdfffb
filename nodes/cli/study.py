"""`haemfed study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from nodes.cli import options
from nodes.cli.terminal import out

if TYPE_CHECKING:
    from harmonize.profile import Profile
    from nodes.study import Imputing, Search

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(study: options.StudyArgument) -> None:
    """Print what a study would release, to whom, and at what cost."""
    from rich.markup import escape

    from nodes import files, showing
    from nodes import study as studies

    signed = studies.parse(files.read(study), str(study))
    plan = signed.study
    out.print(f"[bold]{escape(plan.name)}[/]  digest {plan.digest().hex()}")
    out.print(escape(plan.purpose))
    table = Table(*showing.COLUMNS)
    for stage in plan.stages:
        table.add_row(*map(escape, showing.row(plan, stage)))
    out.print(table)
    for line in showing.terms(plan):
        out.print(escape(line))
    signers = {entry.site for entry in signed.signatures}
    for site in plan.sites:
        out.print(f"  {site.index}  {escape(site.name)}  {'signed' if site.name in signers else 'not signed'}")


@app.command()
def sign(
    study: options.StudyArgument,
    config: options.SiteOption = Path("site.toml"),
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write the signed copy; default: in place.")
    ] = None,
) -> None:
    """Hold the study against this site's policy and budget, approve one run of it, and sign."""
    from nodes.signing import approve_and_sign

    settings = options.site(config)
    approve_and_sign(settings, study, target or study, options.now())
    out.print(f"{settings.name}: approved and signed {target or study}")


@app.command()
def merge(
    copies: Annotated[list[Path], typer.Argument(help="Copies that different sites have signed.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="Where to write the study with all signatures.")],
) -> None:
    """Join the signatures of several copies of one study."""
    from nodes import files
    from nodes import study as studies

    merged = studies.merge([studies.parse(files.read(copy), str(copy)) for copy in copies])
    files.write(target, merged.to_json())
    missing = {site.name for site in merged.study.sites} - {entry.site for entry in merged.signatures}
    out.print(
        f"wrote {target}; " + (f"still to sign: {', '.join(sorted(missing))}" if missing else "signed by every site")
    )


@app.command()
def draft(
    sites: Annotated[list[str], typer.Option("--site", help="REQUEST.json=SIZE-BAND of each hospital; at least four.")],
    name: Annotated[str, typer.Option(help="Name of the study.")],
    purpose: Annotated[str, typer.Option(help="One sentence for the record of processing.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="Where to write the unsigned study.")],
    profile: Annotated[str, typer.Option(help="Data profile.")] = "aml_core",
    preset: Annotated[
        str, typer.Option(help="What is learned, by which constants; an unknown name lists all.")
    ] = "aml-small",
    epsilon: Annotated[float, typer.Option(help="Total ε of a training patient, and of a holdout patient.")] = 2.0,
    delta: Annotated[float, typer.Option(help="δ of both.")] = 1e-5,
    patients: Annotated[float, typer.Option(help="Training patients of all hospitals together, as declared.")] = 800.0,
    days: Annotated[int, typer.Option(min=1, help="Days until the study expires.")] = 90,
    run_number: Annotated[int, typer.Option(min=1, help="1 for the first run of this study.")] = 1,
    mode: options.ModeOption = "A",
    noise: Annotated[
        Literal["distributed", "local", "none"],
        typer.Option(help="Who adds it: all together, each the whole, or nobody."),
    ] = "distributed",
    budget: Annotated[Literal["GDP", "RDP"], typer.Option(help="Kind of budget that pays: GDP or RDP.")] = "GDP",
    order: Annotated[int, typer.Option(help="Order of an RDP budget, 2 to 256.")] = 0,
    sampling: Annotated[
        float, typer.Option(help="Probability of a patient to be in a training step; needs RDP.")
    ] = 1.0,
    lane_bits: Annotated[int, typer.Option(help="64, or 32, 21, 16, 12 or 10 for narrow lanes, which need RDP.")] = 64,
    patient_cap: Annotated[int, typer.Option(help="Public cap on the patients of one hospital.")] = 4096,
    hospitals_per_patient: Annotated[int, typer.Option(help="At how many of them one patient may be known.")] = 1,
    search: Annotated[
        str | None, typer.Option(help="LAW=MEAN if this is one run of a search: geometric, poisson or logarithmic.")
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            help="NAME,… of concordance, calibration, brier, auc, likelihood: what is measured on hold-out patients.",
            show_default="concordance,calibration",
        ),
    ] = None,
    impute: Annotated[
        str | None, typer.Option(help="Impute gaps: all, or NAME,… of inputs of the profile. Default: mask and fill.")
    ] = None,
    never_measured: Annotated[
        str, typer.Option(help="NAME,… of those that some hospital never measures: imputed nowhere.")
    ] = "",
    cross_site: Annotated[
        str, typer.Option(help="NAME,… of these that are imputed all the same, from the other hospitals' patients.")
    ] = "",
    modalities: Annotated[
        str | None, typer.Option(help="NAME,… as clinical,mutations. Default: all that the learner can use.")
    ] = None,
    algorithm: Annotated[
        Literal["lockstep", "fedavg", "fedprox", "newton"],
        typer.Option(help="fedavg, fedprox: with --noise local or none. newton, the exact Cox model: with none."),
    ] = "lockstep",
    rounds: Annotated[int | None, typer.Option(help="Sums of training. Default: 20; newton 10.")] = None,
    local_steps: Annotated[int | None, typer.Option(help="fed…: gradient steps before each sum.")] = None,
    local_rate: Annotated[float | None, typer.Option(help="fed…: step size of these.")] = None,
    server_rate: Annotated[float | None, typer.Option(help="fed…: what a sum of changes is multiplied by.")] = None,
    bound: Annotated[float | None, typer.Option(help="fed…: norm that one hospital's change is cut to.")] = None,
    proximal: Annotated[float | None, typer.Option(help="fedprox: μ, the pull back to the common model.")] = None,
    form: Annotated[
        Literal["stratified", "grid"] | None,
        typer.Option(help="newton: by hospital, or risk sets on the preset's grid."),
    ] = None,
    ridge: Annotated[float | None, typer.Option(help="newton: λ, on the sum over deaths.")] = None,
) -> None:
    """Write a study for others to sign. Every number in it is public and was chosen by a person."""
    import datetime as dt
    import os

    from harmonize.profile import load
    from nodes import columns, enrolment, files
    from nodes.drafting import draft as write
    from nodes.errors import StudyInvalid
    from nodes.plans import preset_named
    from nodes.protocol import Terms
    from nodes.study import SignedStudy, parse
    from secagg.manifest import Mode, Noise

    members = []
    for entry in sites:
        path, found, band = entry.partition("=")
        if not found or not band:
            raise StudyInvalid(f"--site {entry}: write REQUEST.json=SIZE-BAND, for example alder.request.json=250-499")
        asked = enrolment.read_request(enrolment.read_document(Path(path)))
        members.append((asked.site, asked.identity, band))
    data_profile, learned = load(profile), preset_named(preset)
    chosen = columns.chosen(data_profile, learned, None if modalities is None else _names(modalities))
    expires = options.now() + dt.timedelta(days=days)
    study = write(
        name,
        purpose,
        profile=data_profile,
        preset=learned,
        sites=members,
        terms=Terms(
            epsilon=epsilon,
            delta=delta,
            holdout_epsilon=epsilon,
            holdout_delta=delta,
            declared_patients=patients,
            patient_cap=patient_cap,
            mode=Mode(mode),
            noise=Noise(noise),
            budget=budget,
            order=order,
            sampling_probability=sampling,
            lane_bits=lane_bits,
            hospitals_per_patient=hospitals_per_patient,
            search=_search(search),
            evaluate=None if evaluate is None else tuple(_names(evaluate)),
        ),
        seed=os.urandom(32),
        not_after=expires.isoformat(timespec="seconds"),
        run_number=run_number,
        imputation=_imputation(data_profile, chosen.names, impute, never_measured, cross_site),
        columns=chosen,
        algorithm=options.algorithm(
            algorithm,
            rounds=rounds,
            local_steps=local_steps,
            local_rate=local_rate,
            server_rate=server_rate,
            bound=bound,
            proximal=proximal,
            form=form,
            ridge=ridge,
        ),
    )
    document = SignedStudy(study).to_json()
    parse(document, str(target))  # what nobody would read is not written
    files.write(target, document)
    out.print(f"wrote {target}: {len(members)} hospitals, digest {study.digest().hex()[:16]}; every site signs it next")
    for line in columns.lines(chosen):
        out.print(f"  {line}", markup=False, soft_wrap=True)


def _imputation(
    profile: Profile, columns: tuple[str, ...], names: str | None, never_measured: str, cross_site: str
) -> Imputing | None:
    from nodes.errors import StudyInvalid
    from nodes.imputing import chosen

    if names is None:
        if never_measured or cross_site:
            raise StudyInvalid(
                "--never-measured and --cross-site say how to impute: name covariates with --impute, too"
            )
        return None
    never, cross = _names(never_measured), _names(cross_site)
    return chosen(profile, _names(names), columns=columns, never_measured=never, cross_site=cross)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _search(text: str | None) -> Search | None:
    from nodes.errors import StudyInvalid
    from nodes.study import Search

    if text is None:
        return None
    law, _, mean = text.partition("=")
    try:
        return Search(law, float(mean))
    except ValueError:
        raise StudyInvalid(f"--search {text}: write LAW=MEAN, for example geometric=10") from None


@app.command()
def close(
    study: options.StudyArgument,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Give up a run that began here: erase its keys for ever. `haemfed budget show` says what that cost."""
    from nodes import files
    from nodes import study as studies
    from nodes.accounts import of
    from nodes.ending import end
    from nodes.errors import StudyStopped
    from nodes.store import SiteStore

    settings = options.site(config)
    plan = studies.parse(files.read(study), str(study)).study
    with files.lock(settings.data_dir), SiteStore(settings.paths.database) as store:
        accounts = of(settings, store, options.now)
        if not accounts.is_open(plan.run_id):
            raise StudyStopped(f"no run of {plan.name!r} is open at {settings.name}; nothing was changed")
        end(accounts, plan, settings.paths.session(plan.run_id), "stopped: given up by a person")
    out.print(f"{settings.name}: closed; `haemfed budget show` says what it cost")
