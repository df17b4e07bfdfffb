"""How the command line speaks: one console, one way to print an error."""

from __future__ import annotations

from rich.console import Console

from nodes.errors import NodeError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def show_error(error: NodeError) -> int:
    """Print one line on stderr and return the exit status."""
    err.print(f"[bold red]error:[/] {_plain(str(error))}", soft_wrap=True)
    return error.exit_code


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
