"""The command `haemfed`: one file per group, each command a few lines over the room that does the work.

Every error a person can cause ends as one line on stderr and the exit status of `nodes.errors`; a traceback is a fault
of ours and is written to the log, not to the terminal.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from nodes.cli import audit, budget, coordinator, demo, harmonize, model, plan, score, site, study, synth
from nodes.cli.terminal import show_error, show_usage
from nodes.errors import InternalError, Interrupted, NodeError, from_core

app = typer.Typer(
    name="haemfed",
    help="Hospitals train models of rare blood cancers together; no patient's data leaves a hospital.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(coordinator.app, name="coordinator", help="The blind adder: certificates, and serving a study.")
app.add_typer(site.app, name="site", help="A hospital's node: keys, certificates, and the daemon.")
app.add_typer(study.app, name="study", help="The signed document of a job: draft, show, sign, merge.")
app.add_typer(harmonize.app, name="harmonize", help="From a source to the canonical table.")
app.add_typer(model.app, name="model", help="Look at and use a trained model.")
app.add_typer(score.app, name="score", help="Published prognostic scores of your own table.")
app.add_typer(synth.app, name="synth", help="Synthetic patients from a trained generator.")
app.add_typer(budget.app, name="budget", help="What was granted, reserved and spent.")
app.add_typer(audit.app, name="audit", help="Certificates and DPO reports.")
study.app.command(name="plan")(plan.plan)
app.command(name="demo")(demo.demo)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"haemfed {version('haemfed')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line and exit with a documented status."""
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        sys.exit(show_error(from_core(KeyboardInterrupt())))
    except TyperException as error:
        sys.exit(show_usage(error))
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 -- the edge of the program: every error becomes one line
        known = from_core(error)
        if isinstance(known, InternalError) and not isinstance(error, NodeError):
            from nodes.logs import log_fault

            log_fault(error)
        sys.exit(show_error(known))
    if code == Interrupted.exit_code:  # how the command-line library reports Ctrl-C, without a word
        sys.exit(show_error(from_core(KeyboardInterrupt())))
    sys.exit(code if isinstance(code, int) else 0)
