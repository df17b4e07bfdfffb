"""How the command line speaks: one console, one way to print an error."""

from __future__ import annotations

from rich.console import Console
from typer.exceptions import TyperException

from nodes.errors import NodeError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def show_error(error: NodeError) -> int:
    """Print one line on stderr and return the exit status."""
    err.print(f"[bold red]error:[/] {_plain(str(error))}", soft_wrap=True)
    return error.exit_code


def show_usage(error: TyperException) -> int:
    """Print what was not understood and where help is, on one line; return the exit status."""
    context = getattr(error, "ctx", None)
    hint = f"; see: {context.command_path} --help" if context is not None else ""
    err.print(
        f"[bold red]error:[/] {_plain(' '.join(error.format_message().split()).rstrip('.'))}{hint}", soft_wrap=True
    )
    return 2


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
