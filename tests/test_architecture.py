"""The house's rules as tests: imports, generated files, pins, packaging, paths, sizes, commands."""

import ast
import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nodes import reference

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("secagg", "dp", "nodes", "models", "harmonize", "audits")
CORES = ("secagg", "dp", "models", "harmonize", "audits")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

# Files that may be longer than 400 lines, each with its reason.
LONG: dict[str, str] = {"secagg/client.py": "the whole state machine of a client reads in one place"}


def tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 -- git from PATH
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="module")
def files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the repository is not known")
    return tracked()


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-logo", "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


# Imports.


def test_import_contracts_hold() -> None:
    result = lint_imports(ROOT)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("dp/queries.py", "import secagg.keys", "Imports go down"),
        ("models/data.py", "import audits.errors", "Imports go down"),
        ("harmonize/units.py", "import socket", "The five cores"),
        ("dp/ledger.py", "import time", "The five cores"),
        ("audits/verdict.py", "import logging", "The five cores"),
        ("secagg/masks.py", "import scipy", "secagg uses neither"),
        ("nodes/door.py", "import grpc", "Only nodes.wire"),
        ("nodes/coordinator.py", "from nodes.proto import federation_pb2", "Only nodes.wire"),
        ("models/artefact.py", "import pickle", "Pickle is nowhere"),
    ],
)
def test_each_import_contract_breaks_when_broken(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")

    result = lint_imports(tmp_path)

    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(rf"^{contract}.* BROKEN", result.stdout, re.MULTILINE), result.stdout


def test_the_wire_contract_covers_new_modules_of_the_shell() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (wire,) = [each for each in contracts if each["name"].startswith("Only") and each["type"] == "forbidden"]

    # A list of modules would forget the next one.
    assert wire["source_modules"] == ["nodes"]
    assert {line.split(" -> ")[0] for line in wire["ignore_imports"]} <= {
        "nodes.wire",
        "nodes.rpc_client",
        "nodes.rpc_server",
        "nodes.proto.*",
    }


# Randomness and clocks: what an import contract cannot see (ruff watches eval, pickle and unsafe YAML).

FORBIDDEN_NAMES = {
    "os.urandom",
    "os.getrandom",
    "np.random.seed",
    "np.random.normal",
    "np.random.default_rng()",
    "torch.manual_seed",
    "torch.seed",
    "torch.randn",
    "torch.rand",
    "datetime.now",
    "dt.datetime.now",
    "torch.load",
}


@pytest.mark.parametrize("package", CORES)
def test_cores_take_chance_and_time_as_arguments(package: str) -> None:
    found = []
    for path in sources(package):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=func, args=arguments):
                    name = ast.unparse(func)
                    if name in FORBIDDEN_NAMES or (f"{name}()" in FORBIDDEN_NAMES and not arguments):
                        found.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}")
                case ast.Import(names=names) if {"random", "secrets", "uuid"} & {each.name for each in names}:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno} import")
                case ast.ImportFrom(module="random" | "secrets" | "uuid"):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno} import")
    assert found == []


# Generated files.


@pytest.mark.parametrize("name", sorted(reference.pages()))
def test_generated_pages_are_current(name: str) -> None:
    path = ROOT / "docs" / "reference" / name

    assert path.read_text(encoding="utf-8") == reference.pages()[name], "run: make docs"


def test_the_policy_of_the_reference_page_is_a_policy() -> None:
    from nodes.config import parse
    from nodes.policy import Policy

    (example,) = re.findall(r"```toml\n(.*?)```", reference.pages()["configuration.md"], re.DOTALL)
    policy = parse(Policy, tomllib.loads(example), source="configuration.md")

    unset = [name for name in Policy.model_fields if getattr(policy, name) is None]
    assert unset == []


def test_protobuf_modules_are_current(tmp_path: Path) -> None:
    proto = ROOT / "nodes" / "proto"
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", f"--python_out={tmp_path}"),
            *(f"--pyi_out={tmp_path}", f"--grpc_python_out={tmp_path}", str(proto / "federation.proto")),
        ],
        check=True,
    )

    for generated in sorted((tmp_path / "nodes" / "proto").iterdir()):
        assert (proto / generated.name).read_text() == generated.read_text(), "run: make proto"


# Dependencies and packaging.


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(set(lines), key=str.lower)
    found = dict(line.split("==") for line in lines)
    return {canonicalize_name(name): pinned for name, pinned in found.items()}


def test_every_dependency_is_pinned_to_what_it_asks_for() -> None:
    pinned = pins()
    extras = PROJECT["project"]["optional-dependencies"]
    for text in (*PROJECT["project"]["dependencies"], *(line for extra in extras.values() for line in extra)):
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), text
    assert pinned["torch"] == "2.13.0"


def test_generated_code_fits_the_oldest_protobuf_and_grpc_that_is_allowed() -> None:
    wanted = {Requirement(text).name: Requirement(text).specifier for text in PROJECT["project"]["dependencies"]}
    proto = ROOT / "nodes" / "proto"
    (made_with,) = re.findall(r"Protobuf Python Version: ([\d.]+)", (proto / "federation_pb2.py").read_text())
    (grpc_with,) = re.findall(r"VERSION = '([\d.]+)'", (proto / "federation_pb2_grpc.py").read_text())

    # A runtime older than the generator refuses the module; a next major version may.
    assert not wanted["protobuf"].contains("6.33.0")
    assert wanted["protobuf"].contains(made_with)
    assert not wanted["protobuf"].contains(f"{int(made_with.split('.')[0]) + 1}.0.0")
    assert wanted["grpcio"].contains(version("grpcio"))
    assert wanted["grpcio"].contains(grpc_with)


def test_the_wheel_holds_the_packages_and_their_files_and_no_tests(files: list[Path]) -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    assert sorted(setuptools["packages"]["find"]["include"]) == sorted(f"{name}*" for name in PACKAGES)
    missing = []
    for path in files:
        top, *inside = path.relative_to(ROOT).parts
        if top in PACKAGES and not (path.suffix == ".py" and (path.parent / "__init__.py").exists()):
            globs = [*setuptools["package-data"].get(top, []), *setuptools["package-data"].get("*", [])]
            if not any(fnmatch.fnmatch("/".join(inside), pattern.replace("**/", "*")) for pattern in globs):
                missing.append(str(path.relative_to(ROOT)))
    assert [name for name in missing if not name.endswith(".pyi")] == []


# Text.


def test_no_machine_paths_and_no_registries(files: list[Path]) -> None:
    # One letter of each in brackets, so that this file does not find itself.
    pattern = re.compile(r"/[w]ork/|/[r]oot/|/[h]ome/[a-z]|/[o]pt/|/[t]mp/[a-z]|[p]ypi\.org")
    found = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match}" for match in pattern.findall(text)]
    assert found == []


def test_files_stay_readable(files: list[Path]) -> None:
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".py" and name.split("/")[0] in PACKAGES and "_pb2" not in name:
            length = len(path.read_text().splitlines())
            assert length <= 400 or name in LONG, f"{name} has {length} lines: split it, or give a reason in LONG"
    assert all((ROOT / name).exists() for name in LONG)


def test_links_in_the_documentation_lead_somewhere(files: list[Path]) -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in files
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_index_lists_every_page(files: list[Path]) -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in files if (ROOT / "docs") in path.parents]

    assert [page for page in pages if page.endswith(".md") and page != "README.md" and page not in index] == []


# Commands that the README promises.


def commands(prefix: str) -> list[list[str]]:
    """Commands of the README's code blocks that begin with `prefix`, as words without options."""
    blocks = re.findall(r"```(?:console|bash|sh|text)?\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    found = [line.split("#")[0].split() for line in lines if line.startswith(prefix)]
    return [[word for word in words[1:] if re.fullmatch(r"[a-z][a-z-]*", word)] for words in found]


def test_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    for words in commands("make "):
        assert set(words) <= targets, words


def test_commands_of_the_readme_exist() -> None:
    import typer

    from nodes.cli import app

    for words in commands("haemfed "):
        command = typer.main.get_command(app)
        for word in words:
            children = getattr(command, "commands", {})
            if not children:
                break  # what follows are arguments
            assert word in children, f"haemfed {' '.join(words)}"
            command = children[word]


def test_commands_that_messages_and_pages_recommend_exist(files: list[Path]) -> None:
    import typer

    from nodes.cli import app

    groups = {
        name: set(group.commands)
        for name, group in getattr(typer.main.get_command(app), "commands", {}).items()
        if hasattr(group, "commands")
    }
    wrong = [
        f"{path.relative_to(ROOT)}: haemfed {group} {command}"
        for path in files
        if path.suffix in {".py", ".md", ".j2", ".html"}
        for group, command in re.findall(
            r"(?:`|\$ |run: | {2})haemfed ([a-z]+) ([a-z-]+)", path.read_text(encoding="utf-8")
        )
        if group in groups and command not in groups[group]
    ]
    assert wrong == []


def test_continuous_integration_is_make_test() -> None:
    script = ROOT / ".ci" / "run"

    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "make test"
