import re
import tomllib
from pathlib import Path

from harmonize import mapping as mappings
from harmonize.events import State
from harmonize.issues import CODES
from tests.harmonize.patients import PROFILE

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "harmonisation.md").read_text(encoding="utf-8")


def test_the_page_lists_every_issue_code_as_the_code_has_it() -> None:
    rows = [f"| `{code}` | {kind.severity} | {kind.meaning} | {kind.remedy} |" for code, kind in CODES.items()]
    table = PAGE.partition("<!-- codes: begin")[2].partition("<!-- codes: end")[0]

    assert re.findall(r"^\| `.*$", table, flags=re.MULTILINE) == rows


def test_the_page_lists_every_variable_and_state() -> None:
    for name in (*PROFILE.names, PROFILE.outcome.name):
        assert f"| `{name}` |" in PAGE
    for state in State:
        assert re.search(rf"^\| (\d, )?{state.value}(, \d)? \|", PAGE, flags=re.MULTILINE)


def test_the_example_of_the_page_is_valid() -> None:
    example = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)

    assert len(example) == 1
    assert tomllib.loads(example[0])["format"] == mappings.loads(example[0], PROFILE).format
