"""The coordinator's process: read the study, serve until it ends, and give latecomers its last sums."""

from __future__ import annotations

import datetime as dt
import math
import signal
import threading
from pathlib import Path
from types import FrameType

from nodes import files, logs, tls
from nodes import study as studies
from nodes.config import CoordinatorConfig
from nodes.coordinator import Coordinator
from nodes.errors import Interrupted, StudyStopped, from_core
from nodes.files import lock
from nodes.rpc_server import serve
from nodes.store import CoordinatorStore

_GRACE = 10.0  # seconds for the last messages to leave


def serve_study(config: CoordinatorConfig, study_file: Path, now: dt.datetime) -> int:
    """Serve one study to its end.

    Returns:
        0: every connected site has all sums.

    Raises:
        StudyStopped: it ended without completing; the reason is the coordinator's own.
        Interrupted: SIGINT or SIGTERM; starting again goes on.
        NodeError: certificates, port, disk or study are not in order.
    """
    logs.configure(config.log_level, config.log_format)
    log = logs.get("coordinator")
    study = studies.validate(studies.parse(files.read(study_file), str(study_file)), str(study_file))
    credentials = tls.load_credentials(config.paths, now)
    wake = threading.Event()
    signals: list[int] = []

    def interrupted(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        wake.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    with lock(config.data_dir), CoordinatorStore(config.database_url) as store:
        if store.state(study.run_id) is None:
            studies.require_current(study, now)
        coordinator = Coordinator(
            study.manifest(),
            store,
            max_words=study.max_words,
            deadline=study.federation.deadline_seconds,
            patience=study.federation.patience_seconds,
            pace=config.pace,
            notice=logs.notice("coordinator"),
            wake=wake,
        )
        server, port = serve(
            coordinator,
            {site.index: site.name for site in study.sites},
            address=str(config.listen),
            tls=credentials,
        )
        log.info("listening", port=port, study=study.name)
        try:
            again = coordinator.ended  # started again for those who missed the end: it stays until told to stop
            wake.wait()
            if coordinator.ended and coordinator.failure is None:
                patience = math.inf if again else study.federation.patience_seconds
                coordinator.wait_for_latecomers(patience, lambda: bool(signals))
        finally:
            coordinator.close()
            server.stop(_GRACE).wait()
    if coordinator.failure is not None:
        raise from_core(coordinator.failure) from coordinator.failure
    if not coordinator.ended:
        raise Interrupted(f"study {study.name!r} is interrupted; nothing is lost, start the coordinator again to go on")
    if not coordinator.ok:
        raise StudyStopped(f"study {study.name!r} ended without completing: {coordinator.reason}")
    log.info("complete", study=study.name)
    return 0
