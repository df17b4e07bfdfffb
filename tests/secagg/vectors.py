"""Known answers of tests/vectors/secagg, each file naming its source."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vectors" / "secagg"


def load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def cases(name: str, group: str = "cases") -> list[dict[str, Any]]:
    """The cases of a file, its hex decoded; `why` is a sentence."""
    return [
        {key: bytes.fromhex(value) if isinstance(value, str) and key != "why" else value for key, value in case.items()}
        for case in load(name)[group]
    ]
