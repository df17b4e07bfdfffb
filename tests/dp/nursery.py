"""Runs planted bugs: each in a process of its own, on a copy of one file in memory. No file of the tree is touched.

A nursery is one Python process that has loaded the libraries and nothing of ours. For each request it forks; the child
installs a loader that compiles the changed text where one file of ours is imported, imports the check, and calls it. A
check that raises has caught the bug, and so has one that does not end in time.

    python -m tests.dp.nursery [LIBRARY …] < requests        one JSON object a line, one answer a line
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120
LIBRARIES = (
    *("numpy", "scipy.stats", "scipy.special", "torch", "opacus", "opacus.grad_sample", "opacus.optimizers"),
    *("opacus.validators", "dp_accounting", "dp_accounting.pld", "dp_accounting.rdp", "hypothesis", "pytest"),
    *("cryptography.hazmat.primitives.asymmetric.ed25519", "cryptography.hazmat.primitives.ciphers.aead"),
    *("msgspec", "rfc8785", "pydantic", "yaml", "pandas", "sqlalchemy.orm", "alembic.command", "jinja2"),
)


class StaleAnchor(Exception):  # noqa: N818 -- the words of the list
    """The text that a planted bug changes is not in its file, or not once: the list must follow the code."""


def changed(file: str, edits: Sequence[tuple[str, str]]) -> str:
    """Return a file's text with the edits made.

    Raises:
        StaleAnchor: an old text is not there exactly once.
    """
    text = (ROOT / file).read_text(encoding="utf-8")
    for old, new in edits:
        if (times := text.count(old)) != 1:
            raise StaleAnchor(f"{file}: {times} times, not once: {old!r}")
        text = text.replace(old, new)
    return text


def module_of(file: str) -> str:
    """Name of the module in a file: "dp/rows.py" → "dp.rows"."""
    return file.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")


class _Changed(importlib.machinery.SourceFileLoader):
    """Loads one module from another text."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self._text, self.path, "exec", dont_inherit=True)
        return code


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, file: str, text: str) -> None:
        self._file, self._text, self._module = file, text, module_of(file)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        place = str(ROOT / self._file)
        return importlib.util.spec_from_file_location(fullname, place, loader=_Changed(fullname, place, self._text))


def _plant_and_check(request: Mapping[str, Any]) -> str:
    """In the child: empty if the check holds, else what it said."""
    ours = sorted(name for name in sys.modules if name.split(".")[0] in {"dp", "secagg", "models", "audits", "nodes"})
    if ours:
        raise RuntimeError(f"loaded before the bug was planted: {ours}")
    if request["file"]:
        text = changed(request["file"], [(old, new) for old, new in request["edits"]])
        sys.meta_path.insert(0, _Finder(request["file"], text))
    module, _, name = request["check"].partition(":")
    check = getattr(importlib.import_module(module), name)
    if request["file"] and module_of(request["file"]) not in sys.modules:
        importlib.import_module(module_of(request["file"]))  # a text that is not Python is no bug
    try:
        check()
    except BaseException as error:  # noqa: BLE001 -- pytest's failures are not Exceptions
        lines = traceback.format_exception_only(error)
        return ("".join(lines).strip() or repr(error))[:2000]
    return ""


def _answer(request: Mapping[str, Any]) -> dict[str, str]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(SECONDS)  # not caught: the process ends
        with os.fdopen(writer, "w") as out:
            try:
                json.dump({"caught": _plant_and_check(request)}, out)
            except BaseException:  # noqa: BLE001 -- whatever it was, the answer says so
                json.dump({"error": traceback.format_exc()[-3000:]}, out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    if not said:
        return {"caught": f"no end within {SECONDS} seconds, or a crash"}
    found: dict[str, str] = json.loads(said)
    return found


def main(libraries: Sequence[str]) -> int:
    """Load libraries, then serve requests until there are no more."""
    sys.dont_write_bytecode = True
    for name in libraries:
        importlib.import_module(name)
    out, sys.stdout = sys.stdout, sys.stderr  # a check may print
    for line in sys.stdin:
        out.write(json.dumps(_answer(json.loads(line))) + "\n")
        out.flush()
    return 0


class Nursery:
    """A running nursery; see `nursery`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def caught(self, file: str, edits: Sequence[tuple[str, str]], check: str) -> str:
        """Return what the check said to the changed file; empty if it noticed nothing.

        Args:
            file: of the repository, "" for none: then the check runs on the code as it is.
            edits: (old text, new text) pairs, each old text once in the file.
            check: "module:function".

        Raises:
            StaleAnchor: an old text is not there.
            RuntimeError: the check could not be asked: the changed text is not Python, or the check is not there.
        """
        if file:
            compile(changed(file, edits), file, "exec", dont_inherit=True)
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the nursery has no pipes")
        stdin.write(json.dumps({"file": file, "edits": list(edits), "check": check}) + "\n")
        stdin.flush()
        answer = json.loads(stdout.readline() or '{"error": "the nursery has died"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        said: str = answer["caught"]
        return said


@contextmanager
def nursery(libraries: Sequence[str] = LIBRARIES) -> Iterator[Nursery]:
    """Start a nursery, and end it.

    Args:
        libraries: loaded once, before anything is planted; what is missing here each child loads for itself.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.dp.nursery", *libraries],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    ) as process:
        try:
            yield Nursery(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
