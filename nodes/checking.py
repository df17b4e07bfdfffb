"""`haemfed site check`: everything that can be found out before a study, without sending anything."""

from __future__ import annotations

import datetime as dt

from nodes import accounts as ledgers
from nodes import tls
from nodes.config import SiteConfig
from nodes.enrolment import load_identity
from nodes.fingerprint import fingerprint
from nodes.places import Places, load_secrets
from nodes.policy import read_policy
from nodes.store import SiteStore


def check_site(config: SiteConfig, now: dt.datetime) -> list[str]:
    """Check a site's files.

    Returns:
        One line per thing that is in order.

    Raises:
        NodeError: the first thing that is not; names it and the way out.
    """
    identity = load_identity(config.paths.identity)
    lines = [f"identity      {fingerprint(identity.public)}"]
    load_secrets(Places(config.paths))
    lines.append("secrets       three keys, private to this user")
    tls.load_credentials(config.paths, now)
    certificate = tls.load_certificate(config.paths.certificate)
    lines.append(f"certificate   {tls.name_of(certificate)}, valid until {certificate.not_valid_after_utc:%Y-%m-%d}")
    authority = tls.load_certificate(config.paths.authority)
    lines.append(f"coordinator   {config.coordinator}, authority {tls.authority_fingerprint(authority)}")
    policy = read_policy(config.paths.policy)
    lines.append(f"policy        {len(policy.peers)} pinned hospitals")
    with SiteStore(config.paths.database) as store:
        accounts = ledgers.of(config, store, lambda: now)
    lines.append(f"ledger        {accounts.entries} entries, chain intact")
    return lines
