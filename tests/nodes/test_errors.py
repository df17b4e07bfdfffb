"""Exit statuses are an interface: stable, unique, documented where they are defined."""

import importlib
import re

import pytest

from nodes import errors
from nodes.errors import NodeError, from_core

TREE = [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]


def test_codes_are_stable() -> None:
    assert {cls.__name__: cls.exit_code for cls in TREE} == {
        "NodeError": 70,
        "InternalError": 70,
        "ConfigError": 10,
        "PolicyRefusal": 11,
        "StudyInvalid": 12,
        "CertificateProblem": 13,
        "NotInRoster": 14,
        "BudgetTooSmall": 15,
        "CohortTooSmall": 16,
        "DataProblem": 17,
        "PortInUse": 18,
        "StorageProblem": 19,
        "PeerProblem": 20,
        "CoordinatorUnreachable": 21,
        "StudyStopped": 22,
        "AlreadyRunning": 23,
        "Sealed": 24,
        "StudyDisputed": 25,
        "Interrupted": 130,
    }


def test_the_table_on_top_is_the_tree() -> None:
    rows = re.findall(r"^(\d+) +(\w+) +(.+)$", errors.__doc__ or "", re.MULTILINE)
    table = {name: (int(code), meaning) for code, name, meaning in rows if name != "--"}

    assert set(table) == {cls.__name__ for cls in TREE} - {"NodeError"}
    for cls in TREE:
        if cls is not NodeError:
            code, meaning = table[cls.__name__]
            assert code == cls.exit_code
            assert (cls.__doc__ or "").rstrip(".").lower() == meaning.rstrip(".").lower()


def test_a_message_is_one_line() -> None:
    assert str(errors.DataProblem("first\n  second\tthird ")) == "first second third"


@pytest.mark.parametrize(("package", "name"), sorted(errors._CORES))
def test_every_name_of_a_core_exists(package: str, name: str) -> None:
    module = importlib.import_module(f"{package}.errors")

    assert issubclass(getattr(module, name), Exception)


def test_the_most_derived_listed_class_decides() -> None:
    base = type("HarmonizeError", (Exception,), {"__module__": "harmonize.errors"})
    config = type("ConfigError", (base,), {"__module__": "harmonize.errors"})
    unlisted = type("TruncatedLine", (base,), {"__module__": "harmonize.sources.ndjson"})

    assert type(from_core(config("mapping.yaml: unknown key"))) is errors.ConfigError
    assert type(from_core(unlisted("file ends inside line 7"))) is errors.DataProblem
    assert str(from_core(unlisted("file ends inside line 7"))) == "file ends inside line 7"


def test_a_namesake_in_another_package_is_not_trusted() -> None:
    impostor = type("HarmonizeError", (Exception,), {"__module__": "harmonizer.errors"})

    shown = from_core(impostor("patient 4711"))

    assert type(shown) is errors.InternalError
    assert "4711" not in str(shown)


def test_text_of_foreign_exceptions_stays_inside() -> None:
    shown = from_core(ValueError("could not convert string to float: 'Mrs Smith'"))

    assert type(shown) is errors.InternalError
    assert "Smith" not in str(shown)
    assert "builtins.ValueError" in str(shown)


def test_our_own_errors_pass_and_ctrl_c_has_its_code() -> None:
    own = errors.PortInUse("127.0.0.1:8443: taken")

    assert from_core(own) is own
    assert from_core(KeyboardInterrupt()).exit_code == 130
