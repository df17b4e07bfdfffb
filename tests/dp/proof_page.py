"""Writes the tables of docs/reference/proof-by-test.md: claims, their tests, the planted bugs that these catch.

python -m tests.dp.proof_page
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

from tests.dp import mutants, test_traps
from tests.dp.checks import book, budget, kernel, noise, path, way_out, witnessed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "proof-by-test.md"

FROM, TO = "<!-- from the tests -->\n", "<!-- to here -->\n"

ROOMS: tuple[tuple[str, ModuleType], ...] = (
    ("One patient moves a clipped sum by at most C", kernel),
    ("The noise covers it, on the lattice and in every release", noise),
    ("The production path adds what it charges", path),
    ("What is charged is never too little", budget),
    ("What is spent stays spent", book),
    ("There is one way out, and it acts in order", way_out),
    ("Nothing leaves a ledger that nobody has confirmed", witnessed),
)


def words(check: Callable[[], None]) -> str:
    """The claim: the name of the check, and the first sentence of its docstring if it has one."""
    name = check.__name__.replace("_", " ")
    said = " ".join((check.__doc__ or "").split())
    return f"**{name}**" + (f": {said[0].lower()}{said[1:].rstrip('.')}" if said else "")


def tables() -> Iterator[str]:
    for title, module in ROOMS:
        room = module.__name__.rsplit(".", 1)[1]
        yield f"## {title}\n"
        yield f"Checks in `tests/dp/checks/{room}.py`, run by `tests/dp/test_mutants.py`.\n"
        yield "| Claim | Planted bugs that break it |\n|---|---|"
        for check in module.CHECKS:
            bugs = [each for each in mutants.MUTANTS if each.check == f"{room}:{check.__name__}"]
            listed = "<br>".join(f"{cell(each.name)} (`{each.file}`)" for each in bugs)
            yield f"| {cell(words(check))} | {listed} |"
        yield ""


def traps() -> Iterator[str]:
    yield "## Known traps of private training\n"
    yield "| Trap | Tests |\n|---|---|"
    for trap, tests in test_traps.TRAPS.items():
        yield f"| {cell(trap)} | {listing(tests)} |"
    yield "\n## Attacks by name\n"
    yield "| Attack | Tests |\n|---|---|"
    for name, tests in test_traps.NAMED.items():
        yield f"| `{name}` | {listing(tests)} |"


def listing(tests: Iterable[str]) -> str:
    return "<br>".join(f"`{test}`" for test in tests)


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def page(present: str) -> str:
    """Return the page with its tables as they must be.

    Args:
        present: the page as it is.
    """
    before, _, rest = present.partition(FROM)
    _, _, after = rest.partition(TO)
    properties = sum(len(module.CHECKS) for _, module in ROOMS)
    total = f"{properties} properties hold, and {len(mutants.MUTANTS)} planted bugs break them.\n"
    return "\n".join([before + FROM, total, *tables(), *traps(), "", TO + after])


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
