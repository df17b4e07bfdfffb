"""What a hospital checks before it puts its name under a study, and again before it starts to run it."""

from __future__ import annotations

import base64
import math

from dp.entries import Unprotected
from dp.queries import Account
from nodes.accounts import Accounts
from nodes.config import SiteConfig
from nodes.drafting import check_plan
from nodes.errors import BudgetTooSmall, NotInRoster, PolicyRefusal
from nodes.policy import Charge, StudyFacts, check, read_policy
from nodes.study import Study
from secagg.keys import SUITE, Identity
from secagg.manifest import Noise


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
        PolicyRefusal: a key of `policy.toml` refuses, or is not set; or a second run without noise.
        BudgetTooSmall: an account has too little left, or its kind of budget cannot hold a stage.
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
    if study.privacy.noise is Noise.NONE:
        _require_first_without_noise(study, accounts)
    return pins


def _require_first_without_noise(study: Study, accounts: Accounts) -> None:
    """Two exact sums of two rosters differ by a hospital, and of two days by the patients between them."""
    for entry in accounts.history:
        if entry.kind == Unprotected.KIND and Unprotected.parse(entry.body).run != study.run_id.hex():
            raise _second_without_noise(study, f"ledger entry {entry.sequence}")
    run, read = accounts.state.runs.get(study.run_id.hex()), {Account(stage.account) for stage in study.stages}
    lost = accounts.state.unbounded & read
    if lost and (run is None or not run.plain):  # a recovery took it over: the entry itself is gone
        names = " and ".join(sorted(account.value for account in lost))
        raise _second_without_noise(study, f"before the ledger was recovered; {names}")


def _second_without_noise(study: Study, where: str) -> PolicyRefusal:
    return PolicyRefusal(
        f"study {study.name!r} has no noise, and this site has taken part in such a run before ({where}): the "
        "difference of two exact sums shows whom only one of them holds; ask for a study with a budget"
    )


def _facts(study: Study, site: str, accounts: Accounts) -> StudyFacts:
    charges = [_charge(study, account, accounts) for account in Account if study.charges(account)]
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


def _charge(study: Study, account: Account, accounts: Accounts) -> Charge:
    """The study alone, and the account with it; both by the one rule that the account was granted under.

    Raises:
        BudgetTooSmall: the study is stated in another kind of budget than the account has.
    """
    rule, delta = accounts.filter(account), study.delta(account)
    if rule != study.filter(account):
        granted = f"is kept in {rule}" if account in accounts.state.terms else "has no budget yet"
        raise BudgetTooSmall(
            f"study {study.name!r} is stated in {study.filter(account)}, and the {account.value} account {granted}: "
            "kind and order of an account never change; ask its author for a study in the account's, or grant an "
            "account without a budget one of the study's (`haemfed budget grant`)"
        )
    before = 0 if accounts.is_open(study.run_id) else study.units(account)  # an open run is in what is committed
    total = rule.epsilon(accounts.state.committed_units(account) + before, delta)
    if account in accounts.state.unbounded:  # some run without noise read these patients: no sum of costs is their ε
        total = math.inf
    return Charge(account.value, study.epsilon(account), total, delta)
