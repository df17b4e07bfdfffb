from typing import Any

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Any:
    """Small matrices on a busy machine: threads that wait for each other cost minutes."""
    with threadpool_limits(1):
        yield
