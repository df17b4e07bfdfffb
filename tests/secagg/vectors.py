"""Known answers of tests/vectors/secagg, each file naming its source."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vectors" / "secagg"


def load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of a file, values that look like hex decoded."""
    return [
        {key: bytes.fromhex(value) if isinstance(value, str) else value for key, value in case.items()}
        for case in load(name)["cases"]
    ]
