"""The site's process: signals, lock, link, status file, and what is written when a study is complete."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import torch

from audits.report import local_findings
from dp.queries import Account
from nodes import files, interrupts, logs, plans, sealing, tls
from nodes import study as studies
from nodes.auditing import attack_locally
from nodes.config import SiteConfig
from nodes.door import Progress
from nodes.errors import NodeError, from_core
from nodes.places import Places
from nodes.results import MODEL, write_results
from nodes.rpc_client import GrpcLink
from nodes.site import Finished, run_study
from nodes.study import Study

LOCAL = "local.json"
DISPUTED = "its study ended disputed: the hospitals made different models of the same sums"


def run_site(config: SiteConfig, study_file: Path) -> int:
    """Take part in a study to its end.

    Returns:
        0: the study is complete here.

    Raises:
        NodeError: see `nodes.errors`; starting the same command again goes on.
    """
    logs.configure(config.log_level, config.log_format)
    log = logs.get("site")
    torch.set_num_threads(config.threads)
    now = dt.datetime.now(dt.UTC)
    try:
        interrupts.from_terminal_and_supervisor()
        study = studies.validate(studies.parse(files.read(study_file), str(study_file)), str(study_file))
        credentials = tls.load_credentials(config.paths, now)
        places = Places(config.paths)
        with files.lock(config.data_dir):
            files.make_private_directory(places.run(study.run_id))
            log.info("started", site=config.name, study=study.name)
            link = GrpcLink(str(config.coordinator), credentials, max_words=study.max_words)
            run_study(
                study,
                config,
                link,
                watch=_status(study, places),
                deliver=lambda done: _deliver(places, done),
                delivered=(places.run(study.run_id) / LOCAL).exists,
                seal=lambda: _seal(places, study),
                sleep=interrupts.sleep,
                notice=logs.notice("site"),
            )
    except NodeError as error:
        log.error("stopped", reason=str(error), exit_code=error.exit_code)  # noqa: TRY400 -- no traceback for this
        raise
    except (Exception, KeyboardInterrupt) as error:
        known = from_core(error)
        log.error("stopped", reason=str(known), exit_code=known.exit_code)  # noqa: TRY400 -- `log_fault` has it
        if type(error).__module__.split(".")[0] not in {"secagg", "dp", "harmonize", "audits", "models"}:
            logs.log_fault(error)
        raise known from error
    log.info("complete", site=config.name, study=study.name)
    return 0


def _deliver(places: Places, finished: Finished) -> None:
    write_results(places, finished)
    found = attack_locally(finished.study, finished.left.model, finished.cohort)
    path = places.run(finished.study.run_id) / LOCAL
    body = msgspec.json.encode(local_findings(found)) if found is not None else b"null"
    files.write(path, body, private=True)
    worst = "\n".join(f"{record.pseudonym}\t{record.score:.4f}" for record in found.worst) if found is not None else ""
    files.write(path.with_name("worst-records.tsv"), (worst + "\n").encode(), private=True)


def _seal(places: Places, study: Study) -> None:
    """Take a disputed model out of use; the reason that is written names no hospital: the file may be copied."""
    path = places.run(study.run_id) / MODEL
    digest = plans.model_in(study, files.read(path)).digest
    sealing.retire(path, digest, DISPUTED, dt.datetime.now(dt.UTC).date())


def _status(study: Study, places: Places) -> Callable[[Progress, int], None]:
    path = places.status(study.run_id)

    def write(progress: Progress, units: int) -> None:
        epsilon = study.epsilon_of(Account.TRAINING, units)
        body = {
            "kind": progress.kind,
            "done": progress.index,
            "of": progress.steps,
            "round": progress.round,
            "roster": list(progress.roster),
            "event": progress.event,
            "protection": progress.protection,
            "epsilon_spent": round(epsilon, 4) if math.isfinite(epsilon) else None,
        }
        # No fsync: a status that is lost with the machine's power is worth nothing anyway.
        temporary = path.with_suffix(".tmp")
        with suppress(OSError):  # nor is it worth stopping a study for
            temporary.write_text(json.dumps(body))
            temporary.replace(path)

    return write
