"""Flower's SecAgg+ in one process, driven line by line: the peer of rows 3.3 and 3.4.

Runs under the peer's own interpreter (see ``flower_process.py``), so it imports nothing of ours. What is timed is
Flower's code alone: the four client stages of ``secaggplus_mod`` as its mod calls them, and everything
``SecAggPlusWorkflow`` does between its messages. What carries messages, encodes records or trains is not there, so none
of it counts; the strategy behind the workflow returns at once. Every client is a neighbour of every other one; each has
a vector of float32 drawn from a seed; quantisation parameters are the workflow's defaults, and the reconstruction
threshold, which has none, is 2 of 3.

Input, one a line: ``aggregate N LENGTH``, then ``go`` for each pause. Output, one JSON object a line: a pause before
every share-keys and every masking stage, so that the caller can measure something of its own in between, and a result.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common import FitIns, Parameters, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common import recorddict_compat as compat
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.supercore.task_identity import TaskIdentity

# By name: the package exports a function that is called like the module.
mod = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")

THRESHOLD = 2 / 3
EXAMPLES = 10
SCALE = 0.1  # of the vectors: far inside the default clipping range of 8
SEED = 20260101

Record = dict[str, Any]


class Client:
    """One client: Flower's state between stages, and the CPU seconds of each stage."""

    def __init__(self, node: int, vector: np.ndarray) -> None:
        self.parameters = ndarrays_to_parameters([vector])
        self.state = mod.SecAggPlusState()
        self.state.nid = node
        self.cpu: dict[str, float] = {}
        self.octets = 0

    def answer(self, stage: str, configs: Record) -> Record:
        """Run one stage and return what it sends."""
        work = self._stage(stage, configs)
        start = time.process_time()
        sent = work()
        self.cpu[stage] = time.process_time() - start
        if stage == Stage.COLLECT_MASKED_VECTORS:
            self.octets = sum(map(len, sent[Key.MASKED_PARAMETERS]))
        return sent

    def _stage(self, stage: str, configs: Record) -> Callable[[], Record]:
        match stage:
            case Stage.SETUP:
                return lambda: mod._setup(self.state, configs)
            case Stage.SHARE_KEYS:
                return lambda: mod._share_keys(self.state, configs)
            case Stage.COLLECT_MASKED_VECTORS:
                return lambda: mod._collect_masked_vectors(self.state, configs, EXAMPLES, self.parameters)
            case Stage.UNMASK:
                return lambda: mod._unmask(self.state, configs)
        raise ValueError(stage)


class Grid:
    """Carries the workflow's messages to the clients; the workflow's clock stands still meanwhile."""

    def __init__(self, clients: dict[int, Client]) -> None:
        self.clients = clients
        self.server = 0.0
        self.mark = time.process_time()

    def send_and_receive(self, messages: Iterable[Message], timeout: float | None = None) -> list[Message]:
        """Let every addressed client answer."""
        del timeout
        sent = list(messages)
        self.stop()
        replies = [self._reply(message) for message in sent]
        self.mark = time.process_time()
        return replies

    def stop(self) -> None:
        """Book what the workflow has used since its last message."""
        self.server += time.process_time() - self.mark

    def _reply(self, message: Message) -> Message:
        configs = dict(message.content.config_records[RECORD_KEY_CONFIGS])
        stage = configs.pop(Key.STAGE)
        if stage in (Stage.SHARE_KEYS, Stage.COLLECT_MASKED_VECTORS):
            say({"event": "pause", "stage": stage})
            hear("go")
        content = RecordDict()
        sent = self.clients[message.metadata.dst_node_id].answer(stage, configs)
        content.config_records[RECORD_KEY_CONFIGS] = ConfigRecord(sent, keep_input=False)
        if stage == Stage.COLLECT_MASKED_VECTORS:
            content.array_records["fitres.parameters"] = ArrayRecord({})
            content.metric_records["fitres.num_examples"] = MetricRecord({"num_examples": EXAMPLES})
            content.config_records["fitres.metrics"] = ConfigRecord({})
            content.config_records["fitres.status"] = ConfigRecord({"code": 0, "message": ""})
        return Message(content, reply_to=message)


class Strategy:
    """Names the clients and keeps the average; stands for whatever a user's strategy does."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self.nodes = nodes
        self.average = Parameters(tensors=[], tensor_type="numpy.ndarray")

    def configure_fit(self, *_: Any) -> list[tuple[Any, FitIns]]:
        """Ask everybody, and send no model: handing out the model is not part of the comparison."""
        empty = Parameters(tensors=[], tensor_type="numpy.ndarray")
        return [(_Named(node), FitIns(empty, {})) for node in self.nodes]

    def aggregate_fit(self, _round: int, results: list[tuple[Any, Any]], _failures: Any) -> tuple[None, dict[str, Any]]:
        """Keep the average; it is read after the clock has stopped."""
        self.average = results[0][1].parameters
        return None, {}


class _Named:
    def __init__(self, node: int) -> None:
        self.node_id = node

    @staticmethod
    def num_available() -> int:
        return 0


def aggregate(n: int, length: int) -> Record:
    """Run one aggregation without dropouts and check its result.

    Returns:
        CPU seconds of each client (by stage) and of the server, octets of one upload, and the largest error of a
        coordinate of the average.
    """
    chance = np.random.default_rng(SEED)
    vectors = [chance.normal(0, SCALE, length).astype(np.float32) for _ in range(n)]
    clients = {node: Client(node, vector) for node, vector in enumerate(vectors, start=1)}
    strategy = Strategy(clients)
    state = RecordDict()
    state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(
        Parameters(tensors=[], tensor_type="numpy.ndarray"), keep_input=True
    )
    context = LegacyContext(
        Context(run_id=1, node_id=0, node_config={}, state=state, run_config={}),
        strategy=strategy,
        client_manager=_Named(0),
    )
    workflow = SecAggPlusWorkflow(num_shares=1.0, reconstruction_threshold=THRESHOLD)
    grid = Grid(clients)
    workflow(grid, context)
    grid.stop()
    average = parameters_to_ndarrays(strategy.average)[0]
    return {
        "event": "result",
        "clients": [client.cpu for client in clients.values()],
        "server": grid.server,
        "octets": clients[1].octets,
        "error": float(np.max(np.abs(average - np.mean(vectors, axis=0)))),
    }


def say(record: Record) -> None:
    """Write one line."""
    print(json.dumps(record), flush=True)


def hear(expected: str) -> None:
    """Wait for one line."""
    line = sys.stdin.readline().strip()
    if line != expected:
        sys.exit(f"expected {expected!r}, got {line!r}")


def main() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1 << 32
    say({"event": "ready"})
    for line in sys.stdin:
        command, *numbers = line.split()
        if command != "aggregate":
            sys.exit(f"unknown command {command!r}")
        say(aggregate(*map(int, numbers)))


if __name__ == "__main__":
    main()
