"""`haemfed budget`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nodes.cli import options
from nodes.cli.terminal import out

app = typer.Typer(no_args_is_help=True)


@app.command()
def grant(
    account: Annotated[str, typer.Argument(help="training or holdout")],
    epsilon: Annotated[float, typer.Option(help="Total ε of this account, over all studies, for ever.")],
    delta: Annotated[float, typer.Option(help="δ at which ε is stated.")] = 1e-5,
    config: options.SiteOption = Path("site.toml"),
) -> None:
    """Grant a budget (the data protection officer's act). The newest grant counts; every one stays in the ledger."""
    from nodes.accounts import Accounts
    from nodes.files import lock
    from nodes.store import SiteStore

    settings = options.site(config)
    with lock(settings.data_dir), SiteStore(settings.paths.database) as store:
        Accounts(store, options.now).grant(account, epsilon, delta)
    out.print(f"{settings.name}: granted ε = {epsilon:g} at δ = {delta:g} to the {account} account")


@app.command()
def show(config: options.SiteOption = Path("site.toml")) -> None:
    """Print what was granted, reserved and spent on each account."""
    from nodes.accounts import Accounts
    from nodes.store import SiteStore

    settings = options.site(config)
    with SiteStore(settings.paths.database) as store:
        lines = Accounts(store, options.now).summary()
    table = Table("account", "δ", "granted ε", "spent ε", "reserved and spent ε", "remaining μ²", "uploads")
    for line in lines:
        table.add_row(
            line.account,
            f"{line.delta:g}",
            f"{line.granted:.3f}",
            f"{line.spent:.3f}",
            f"{line.committed:.3f}",
            f"{line.remaining_mu_squared:.4f}",
            str(line.uploads),
        )
    out.print(table)


@app.command()
def verify(config: options.SiteOption = Path("site.toml")) -> None:
    """Recompute the ledger's hash chain and add up every upload again."""
    from nodes.accounts import Accounts
    from nodes.store import SiteStore

    settings = options.site(config)
    with SiteStore(settings.paths.database) as store:
        accounts = Accounts(store, options.now)
    out.print(f"{settings.name}: {accounts.entries} entries, chain intact, head {accounts.head[:16]}")
