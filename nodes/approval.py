"""What a hospital checks before it puts its name under a study, and again before it starts to run it."""

from __future__ import annotations

import base64

from dp.budget import epsilon_of
from dp.queries import Account
from nodes.accounts import Accounts
from nodes.config import SiteConfig
from nodes.errors import NotInRoster
from nodes.policy import Charge, StudyFacts, check, read_policy
from nodes.protocol import check_plan
from nodes.study import Study
from secagg.keys import SUITE, Identity


def check_study(study: Study, config: SiteConfig, identity: Identity, accounts: Accounts) -> frozenset[bytes]:
    """Hold a study against this site's policy and budget.

    Args:
        study: parsed, its stages consistent.
        config: names this site and its data directory.
        identity: this site's key; the study must list it.
        accounts: the ledger, which says what was spent and reserved before.

    Returns:
        The peers' identities that this site has pinned itself.

    Raises:
        StudyInvalid: the study could not be run.
        NotInRoster: this site is not on the study, or under another key.
        PolicyRefusal: a key of `policy.toml` refuses, or is not set.
        BudgetTooSmall: an account has too little left.
    """
    site = study.site(config.name)
    if base64.b64decode(site.identity) != identity.public:
        raise NotInRoster(
            f"study {study.name!r} lists another identity key for {config.name!r}; have its author compare fingerprints"
        )
    check_plan(study)
    pins = check(read_policy(config.paths.policy), _facts(study, config.name, accounts))
    for account in Account:
        accounts.require_room(study, account)
    return pins


def _facts(study: Study, site: str, accounts: Accounts) -> StudyFacts:
    deltas = {Account.TRAINING: study.privacy.delta, Account.HOLDOUT: study.privacy.holdout_delta}
    charges = []
    for account, delta in deltas.items():
        cost = study.mu_squared(account)
        before = 0.0 if accounts.is_open(study.run_id) else cost
        total = accounts.committed(account) + before
        charges.append(
            Charge(
                account=account.value,
                epsilon=epsilon_of(cost, delta),
                total=epsilon_of(total, delta),
                delta=delta,
            )
        )
    return StudyFacts(
        name=study.name,
        site=site,
        profile=study.profile,
        query_kinds=tuple(stage.kind for stage in study.stages),
        suite=SUITE,
        roster={member.name: base64.b64decode(member.identity) for member in study.sites},
        minimum_roster=study.fewest_in_a_sum,
        collusion=study.privacy.collusion,
        charges=tuple(charges),
    )
