import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["ceilings", "gaussian", "interval", "mechanism", "renyi", "views"])
def test_examples_in_the_text_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"audits.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
