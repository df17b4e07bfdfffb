"""`haemfed budget`: what the data protection officer grants, reads and checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from nodes.cli import options
from nodes.cli.terminal import out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodes.balances import Line

app = typer.Typer(no_args_is_help=True)


@app.command()
def grant(
    account: Annotated[str, typer.Argument(help="training or holdout")],
    epsilon: Annotated[float, typer.Option(help="Total ε of this account, over all studies and tables, for ever.")],
    delta: Annotated[float, typer.Option(help="δ at which ε is stated; the first grant fixes it.")] = 1e-5,
    kind: Annotated[
        Literal["GDP", "RDP"],
        typer.Option(help="GDP: full batches. RDP: Poisson samples and narrow lanes, too. The first grant fixes it."),
    ] = "GDP",
    order: Annotated[int, typer.Option(help="Order of an RDP budget, 2 to 256; the first grant fixes it.")] = 0,
    study_epsilon: Annotated[
        float | None, typer.Option(help="The most that one run of a study may take.", show_default="no limit")
    ] = None,
    year_epsilon: Annotated[
        float | None, typer.Option(help="The most that one opened year may take.", show_default="no limit")
    ] = None,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Grant a budget (the data protection officer's act). The newest grant counts; every one stays in the ledger."""
    from nodes import accounts
    from nodes.files import lock
    from nodes.store import SiteStore

    settings = options.site(config)
    with lock(settings.data_dir), SiteStore(settings.paths.database) as store:
        books = accounts.of(settings, store, options.now)
        books.grant(
            account, epsilon, delta, kind=kind, order=order, study_epsilon=study_epsilon, year_epsilon=year_epsilon
        )
    how = kind if kind == "GDP" else f"{kind} at order {order}"
    out.print(f"{settings.name}: granted ε = {epsilon:g} at δ = {delta:g} ({how}) to the {account} account")


@app.command(name="open-year")
def open_year(
    year: Annotated[int, typer.Argument(help="For example 2027: it must have begun.")],
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Begin a new year of the yearly limits (the data protection officer's act). The lifetime account never resets."""
    from nodes import accounts
    from nodes.files import lock
    from nodes.store import SiteStore

    settings = options.site(config)
    with lock(settings.data_dir), SiteStore(settings.paths.database) as store:
        accounts.of(settings, store, options.now).open_year(year)
    out.print(f"{settings.name}: the year {year} is open")


@app.command()
def show(config: options.SiteOption = Path("site.toml")) -> None:
    """Print what was granted, reserved and spent on each account."""
    from nodes import accounts
    from nodes.store import SiteStore

    settings = options.site(config)
    with SiteStore(settings.paths.database) as store:
        books = accounts.of(settings, store, options.now)
    out.print(_table(books.summary()))
    _print_notes(books.summary(), books.state.year, len(books.state.open_runs()))


@app.command(name="what-if")
def what_if(
    study: Annotated[Path | None, typer.Argument(help="A study file, signed or not.", show_default=False)] = None,
    kind: Annotated[str, typer.Option(help="Without a file: kind of release.")] = "gradient",
    multiplier: Annotated[float, typer.Option(help="Without a file: noise multiplier z.")] = 0.0,
    uploads: Annotated[int, typer.Option(help="Without a file: how many uploads.")] = 0,
    sampling_probability: Annotated[float, typer.Option(help="Without a file: q; 1 is every patient.")] = 1.0,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Say what a study would do to the accounts; nothing is recorded."""
    from nodes import accounts
    from nodes.errors import ConfigError
    from nodes.files import read
    from nodes.store import SiteStore
    from nodes.whatif import of_study, outlook, release

    settings = options.site(config)
    if study is not None and (multiplier or uploads):
        raise ConfigError("what-if takes a study file, or --multiplier and --uploads, not both")
    plan = None
    if study is not None:
        from nodes import study as studies

        plan = studies.parse(read(study), str(study)).study
    charges = release(kind, multiplier, uploads, sampling_probability) if plan is None else ()
    with SiteStore(settings.paths.database) as store:
        state = accounts.of(settings, store, options.now).state
    table = Table("account", "δ", "ε now", "ε of the study", "ε with it", "granted ε", "fits")
    views = of_study(state, plan) if plan is not None else outlook(state, charges)
    for view in views:
        table.add_row(
            view.now.account,
            f"{view.now.delta:g}",
            f"{view.now.committed:.3f}",
            f"{view.study:.3f}",
            f"{view.total:.3f}",
            f"{view.now.granted:.3f}",
            "no" if view.refusal else "yes",
        )
    out.print(table)
    for view in views:
        if view.refusal:
            out.print(f"{view.now.account}: {view.refusal}", soft_wrap=True)
        elif view.study == float("inf"):
            out.print(f"{view.now.account}: the study has no noise; ε would be not bounded from then on, for ever")


@app.command()
def export(
    target: Annotated[Path, typer.Argument(help="Where the file goes; - for standard output.")],
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Write the whole ledger as one file that can be checked anywhere with `haemfed budget verify FILE`."""
    from nodes import accounts, files, ledger_file
    from nodes.enrolment import load_identity
    from nodes.store import SiteStore

    settings = options.site(config)
    with SiteStore(settings.paths.database) as store:
        books = accounts.of(settings, store, options.now)
    document = ledger_file.export(books.history, books.state, settings.name, load_identity(settings.paths.identity))
    if str(target) == "-":
        typer.echo(document, nl=False)
        return
    files.write(target, document, private=True)
    out.print(f"{settings.name}: {books.entries} entries written to {target}", soft_wrap=True)


@app.command()
def verify(
    file: Annotated[Path | None, typer.Argument(help="A file from `export`; without one, this site's ledger.")] = None,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Recompute the hash chain and add up every account again, of this site or, anywhere, of an exported file."""
    from nodes import accounts, files
    from nodes.ledger_file import verify_file
    from nodes.store import SiteStore

    if file is not None:
        found = verify_file(files.read(file), str(file))
        out.print(f"{found.site}: {found.entries} entries, {found.first or '-'} to {found.last or '-'}, chain intact")
        out.print(f"head {found.head[:16]}, signed by {found.signer}", soft_wrap=True)
        out.print(_table(found.lines))
        _print_notes(found.lines, found.year, found.open_runs)
        return
    settings = options.site(config)
    with SiteStore(settings.paths.database) as store:
        books = accounts.of(settings, store, options.now)
    out.print(f"{settings.name}: {books.entries} entries, chain intact, head {books.head[:16]}, as the anchor says")


@app.command()
def recover(
    exhaust: Annotated[
        list[str] | None,
        typer.Option(
            help="Give this account up for ever: only if it was granted anew in another way.", metavar="ACCOUNT"
        ),
    ] = None,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """After a restore: take over what the anchor and the other hospitals have seen (the officer's act)."""
    from dp.errors import BudgetOfAnotherKind
    from dp.events import Account
    from nodes.errors import ConfigError
    from nodes.recovering import recover as take_over

    settings = options.site(config)
    if unknown := set(exhaust or ()) - {account.value for account in Account}:
        raise ConfigError(f"there is no account {min(unknown)!r}: --exhaust takes training or holdout")
    try:
        done = take_over(settings, options.now(), [Account(name) for name in exhaust or ()])
    except BudgetOfAnotherKind as error:
        raise ConfigError(
            f"{error} for ever: haemfed budget recover --exhaust ACCOUNT. Its patients can be in no further study then"
        ) from error
    heads = ", ".join(str(sequence) for sequence, _ in done.item.heads) or "none"
    out.print(f"{settings.name}: recovered; entries that others have seen: {heads}; open runs closed: {done.closed}")
    out.print(_table(done.lines))
    for account in done.item.exhausted:
        out.print(f"{account}: given up; nothing can be reserved on it any more, whatever is granted", soft_wrap=True)
    if done.item.heads:
        out.print(
            "every grant was cleared, since a lower one may be among the lost entries: nothing can be reserved until "
            "you grant again (`haemfed budget grant`), the whole ε for ever, with what is spent",
            soft_wrap=True,
        )


def _table(lines: Sequence[Line]) -> Table:
    table = Table("account", "budget", "δ", "granted ε", "spent ε", "spent and reserved ε", "left ε", "uploads")
    for line in lines:
        table.add_row(
            line.account,
            line.budget or "-",
            f"{line.delta:g}",
            f"{line.granted:.3f}",
            f"{line.spent:.3f}",
            f"{line.committed:.3f}",
            f"{line.remaining:.3f}",
            str(line.uploads),
        )
    return table


def _print_notes(lines: Sequence[Line], year: int, open_runs: int) -> None:
    for line in lines:
        if line.study_limit is not None:
            out.print(f"{line.account}: one run may take ε = {line.study_limit:g}")
        if line.year_limit is not None:
            used = f"ε = {line.year:.3f} of {line.year_limit:g} in {year}" if year else "no year is open"
            out.print(f"{line.account}: yearly limit, {used}")
        if line.carried:
            out.print(f"{line.account}: ε = {line.carried:.3f} taken over from witnesses after a restore, as a sum")
        if line.spent == float("inf"):
            out.print(f"{line.account}: not bounded: a study without noise read these patients")
    if open_runs:
        out.print(f"{open_runs} runs are open")
