import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["gaussian", "interval", "mechanism", "report_data"])
def test_examples_in_the_text_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"audits.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
