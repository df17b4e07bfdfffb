import re
import tomllib
from pathlib import Path

from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize.events import State
from tests.harmonize.patients import PROFILE

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "harmonisation.md").read_text(encoding="utf-8")


def test_the_page_lists_every_variable_and_state() -> None:
    for name in (*PROFILE.names, PROFILE.outcome.name):
        assert f"| `{name}` |" in PAGE
    for state in State:
        assert re.search(rf"^\| (\d, )?{state.value}(, \d)? \|", PAGE, flags=re.MULTILINE)


def test_the_examples_of_the_page_are_valid() -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)

    assert len(examples) == 2
    for example in examples:
        raw = tomllib.loads(example)
        assert mappings.loads(example, profiles.load(raw["profile"])).formats == (raw["format"],)
