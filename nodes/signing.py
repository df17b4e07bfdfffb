"""A person's yes to a study: checked against policy and budget, approved for one run, signed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from dp.queries import Account
from nodes import accounts as ledgers
from nodes import files
from nodes import study as studies
from nodes.approval import check_study
from nodes.cohort import study_profile
from nodes.config import SiteConfig
from nodes.enrolment import load_identity
from nodes.guarantees import accounting
from nodes.store import SiteStore


def approve_and_sign(config: SiteConfig, source: Path, target: Path, now: dt.datetime) -> None:
    """Check, approve and sign a study.

    Args:
        config: this site.
        source: the study file.
        target: where the signed copy goes (may be `source`).
        now: the time of approval.

    Raises:
        NodeError: the study is not one this site can or may take part in; nothing was approved or signed.
    """
    signed = studies.parse(files.read(source), str(source))
    study = signed.study
    studies.require_current(study, now)
    study.manifest()
    study_profile(study)
    identity = load_identity(config.paths.identity)
    with files.lock(config.data_dir), SiteStore(config.paths.database) as store:
        accounts = ledgers.of(config, store, lambda: now)
        check_study(study, config, identity, accounts)
        for account in Account:
            if study.charges(account):
                accounting(study, account)  # raises if two accountants disagree: nothing may be released then
        accounts.approve(study)
        files.write(target, studies.sign(signed, config.name, identity).to_json())
