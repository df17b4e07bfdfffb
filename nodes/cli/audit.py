"""`haemfed audit`: exit status 0 PASS, 1 FAIL, 3 INCONCLUSIVE, 4 not a valid certificate for this file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodes.cli import options
from nodes.cli.terminal import out

app = typer.Typer(no_args_is_help=True)
_STATUS = {"PASS": 0, "INCONCLUSIVE": 3}
INTEGRITY = 4


@app.command()
def key(
    target: Annotated[Path, typer.Argument(help="New private key file for an auditor or a data protection officer.")],
) -> None:
    """Make a signing key and print its public half."""
    import base64

    from nodes.enrolment import create_identity
    from nodes.fingerprint import fingerprint

    public = create_identity(target).public
    out.print(
        f"wrote {target} (private)\npublic key  {base64.b64encode(public).decode()}\nfingerprint {fingerprint(public)}"
    )


@app.command()
def certify(
    study: options.StudyArgument,
    auditor: Annotated[Path, typer.Option(help="The auditor's private key.")],
    officer: Annotated[Path, typer.Option(help="The data protection officer's private key.")],
    policy: Annotated[str, typer.Option(help="Policy: research or consortium.")] = "research",
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Judge a finished study at this site, sign the certificate, and write the DPO report."""
    from audits import policy as policies
    from nodes import files
    from nodes import study as studies
    from nodes.auditing import self_check
    from nodes.places import Places
    from nodes.reporting import certify as issue
    from nodes.reporting import report_without_noise
    from nodes.results import load_results
    from secagg.manifest import Noise

    settings = options.site(config)
    plan = studies.validate(studies.parse(files.read(study), str(study)), str(study))
    if plan.privacy.noise is Noise.NONE:
        report = report_without_noise(settings, plan, now=options.now())
        out.print(f"{plan.protection}; there is no certificate of such a run\nreport      {report}")
        raise typer.Exit(1)
    _, model, _ = load_results(Places(settings.paths), plan)
    limits = policies.load(policy)
    done = issue(
        settings,
        plan,
        limits,
        self_check(plan, model, limits),
        auditor=auditor,
        officer=officer,
        now=options.now(),
    )
    out.print(f"{done.outcome}: {done.headline}\ncertificate {done.certificate}\nreport      {done.report}")
    raise typer.Exit(_STATUS.get(str(done.outcome), 1))


@app.command()
def verify(
    artefact: Annotated[Path, typer.Argument(help="The model file.")],
    certificate: Annotated[Path, typer.Argument(help="Its certificate.")],
    auditor: Annotated[str, typer.Option(help="The auditor's public key, base64.")],
    officer: Annotated[str, typer.Option(help="The data protection officer's public key, base64.")],
) -> None:
    """Check a certificate against the file it is about, offline."""
    import base64
    import binascii

    from audits import certificate as certificates
    from audits.errors import AuditError
    from nodes import files
    from nodes.errors import ConfigError

    try:
        trusted = certificates.TrustedKeys(
            (base64.b64decode(auditor, validate=True),), (base64.b64decode(officer, validate=True),)
        )
    except (binascii.Error, AuditError) as error:
        raise ConfigError(f"--auditor and --officer take base64 Ed25519 public keys: {error}") from error
    try:
        checked = certificates.verify(files.read(artefact), files.read(certificate), trusted, options.now().date())
    except AuditError as error:
        out.print(f"not valid: {error}")
        raise typer.Exit(INTEGRITY) from None
    predicate = checked.statement.predicate
    out.print(f"{checked.outcome}: {predicate.verdict.headline()}")
    for claim in predicate.evidence.claims:
        against = f"{claim.adjacency}, {claim.collusion} colluding site(s), budget of {claim.budget}"
        out.print(f"  {claim.account}: ε = {claim.epsilon:.2f} at δ = {claim.delta:g}, {against}; {claim.noise}")
    judged = f"policy {predicate.verdict.policy} version {predicate.verdict.policy_version}"
    out.print(f"  valid {predicate.issued} to {predicate.expires}; {judged}")
    raise typer.Exit(_STATUS.get(str(checked.outcome), 1))
