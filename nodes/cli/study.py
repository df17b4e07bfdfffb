"""`haemfed study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nodes.cli import options
from nodes.cli.terminal import out

app = typer.Typer(no_args_is_help=True)

_MODES = {
    "A": "a round opens only with the upload of every hospital asked, at least {least} of {n}; else it is given up "
    "and its uploads stay charged",
    "B": "a round opens without those who drop out of it, as long as {least} of {n} hospitals are left; the price is "
    "more noise and two more messages a round",
}


@app.command()
def show(study: options.StudyArgument) -> None:
    """Print what a study would release, to whom, and at what cost."""
    from rich.markup import escape

    from audits.report_data import epsilon_views
    from dp.budget import epsilon_of
    from dp.queries import Account
    from nodes import files
    from nodes import study as studies

    signed = studies.parse(files.read(study), str(study))
    plan = signed.study
    out.print(f"[bold]{escape(plan.name)}[/]  digest {plan.digest().hex()}")
    out.print(escape(plan.purpose))
    table = Table("stage", "account", "sums", "uploads", "coordinates", "noise multiplier", "μ of all uploads")
    for stage in plan.stages:
        table.add_row(
            escape(stage.kind),
            stage.account,
            str(stage.steps),
            str(stage.uploads),
            str(stage.length),
            f"{stage.multiplier:.3f}",
            f"{stage.mu_squared**0.5:.3f}",
        )
    out.print(table)
    n = len(plan.sites)
    honest = plan.manifest().honest(n)
    out.print(f"mode {plan.federation.mode}: {_MODES[plan.federation.mode].format(least=plan.fewest_in_a_sum, n=n)}")
    out.print(f"noise: the shares of {honest} honest hospitals are counted on")
    for account, delta in ((Account.TRAINING, plan.privacy.delta), (Account.HOLDOUT, plan.privacy.holdout_delta)):
        total = plan.mu_squared(account)
        cost = f"μ² = {total:.4f}, ε = {epsilon_of(total, delta):.3f} at δ = {delta:g}"
        out.print(f"{account.value} patient, add or remove one: {cost}")
        for view in epsilon_views(total**0.5, roster=n, collusion=plan.privacy.collusion, honest=honest):
            out.print(f"  μ = {view.mu:.3f}  against {view.against[0].lower()}{view.against[1:]}")
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
    profile: Annotated[str, typer.Option(help="Data profile.")] = "aml",
    preset: Annotated[str, typer.Option(help="Model and training constants.")] = "aml-small",
    epsilon: Annotated[float, typer.Option(help="Total ε of a training patient, and of a holdout patient.")] = 2.0,
    delta: Annotated[float, typer.Option(help="δ of both.")] = 1e-5,
    patients: Annotated[float, typer.Option(help="Training patients of all hospitals together, as declared.")] = 800.0,
    days: Annotated[int, typer.Option(min=1, help="Days until the study expires.")] = 90,
    run_number: Annotated[int, typer.Option(min=1, help="1 for the first run of this study.")] = 1,
    mode: options.ModeOption = "A",
) -> None:
    """Write a study for others to sign. Every number in it is public and was chosen by a person."""
    import datetime as dt
    import os

    from harmonize.profile import load
    from models.presets import preset as find
    from nodes import enrolment, files
    from nodes.errors import StudyInvalid
    from nodes.protocol import Terms
    from nodes.protocol import draft as write
    from nodes.study import SignedStudy
    from secagg.manifest import Mode

    members = []
    for entry in sites:
        path, found, band = entry.partition("=")
        if not found or not band:
            raise StudyInvalid(f"--site {entry}: write REQUEST.json=SIZE-BAND, for example alder.request.json=250-499")
        asked = enrolment.read_request(enrolment.read_document(Path(path)))
        members.append((asked.site, asked.identity, band))
    expires = options.now() + dt.timedelta(days=days)
    study = write(
        name,
        purpose,
        profile=load(profile),
        preset=find(preset),
        sites=members,
        terms=Terms(
            epsilon=epsilon,
            delta=delta,
            holdout_epsilon=epsilon,
            holdout_delta=delta,
            declared_patients=patients,
            mode=Mode(mode),
        ),
        seed=os.urandom(32),
        not_after=expires.isoformat(timespec="seconds"),
        run_number=run_number,
    )
    files.write(target, SignedStudy(study).to_json())
    out.print(f"wrote {target}: {len(members)} hospitals, digest {study.digest().hex()[:16]}; every site signs it next")


@app.command()
def close(
    study: options.StudyArgument,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Give up a run that began here: erase its keys for ever and free what it did not use."""
    from nodes import files
    from nodes import study as studies
    from nodes.accounts import Accounts
    from nodes.ending import end
    from nodes.errors import StudyStopped
    from nodes.store import SiteStore

    settings = options.site(config)
    plan = studies.parse(files.read(study), str(study)).study
    with files.lock(settings.data_dir), SiteStore(settings.paths.database) as store:
        accounts = Accounts(store, options.now)
        if not accounts.is_open(plan.run_id):
            raise StudyStopped(f"no run of {plan.name!r} is open at {settings.name}; nothing was changed")
        end(accounts, plan, settings.paths.session(plan.run_id), "stopped: given up by a person")
    out.print(f"{settings.name}: closed; what it had not used is free again")
