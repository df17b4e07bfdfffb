"""First steps on an empty folder: what `coordinator init` and `site init` write."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path

from nodes import enrolment, files, tls
from nodes.config import CoordinatorConfig, SiteConfig, load
from nodes.errors import StorageProblem
from nodes.fingerprint import fingerprint
from nodes.places import Places, create_secrets

_POLICY = """\
# What this hospital refuses. A key that is not set refuses every study; your data protection officer sets them.
# Every key is explained in docs/reference/configuration.md.

# minimum_roster = 4
# minimum_collusion = 1
# minimum_cohort = 20
# allowed_profiles = ["aml_core"]
# allowed_query_kinds = ["gradient", "breslow", "concordance", "calibration",
#                        "score-histogram-members", "score-histogram-nonmembers"]
#   for generators and for imputation also: "histogram", "sum", "marginals", "mixture"
#   for fedavg and fedprox "update", for newton (never with noise) "newton", in place of "gradient"
#   for `haemfed study draft --evaluate` also: "survival-holdout" and "brier", "auc", "likelihood"
# minimum_suite = "X25519-ML-KEM-768-HKDF-SHA256-AES-256-CTR"

# [accounts.training]
# max_epsilon_per_study = 2.0
# max_epsilon_total = 6.0
# delta = 1e-5

# [accounts.holdout]
# max_epsilon_per_study = 2.0
# max_epsilon_total = 6.0
# delta = 1e-5

# [peers]                      # every other hospital: fingerprint as read over the telephone
# hospital-b = "ABCD-EFGH-..."
"""


def create_coordinator(directory: Path, consortium: str, listen: str, hosts: Sequence[str], now: dt.datetime) -> str:
    """Make a coordinator's folder.

    Args:
        directory: new or empty.
        consortium: name on the TLS authority.
        listen: host:port.
        hosts: names and addresses for the server certificate.
        now: start of validity.

    Returns:
        The authority's fingerprint, to be compared over the telephone.

    Raises:
        StorageProblem: the folder is not empty, or cannot be written.
        ConfigError: `listen` is not host:port.
    """
    _require_empty(directory)
    files.make_private_directory(directory / "data")
    config = directory / "coordinator.toml"
    files.write(config, f'listen = "{listen}"\ndata_dir = "data"\n'.encode())
    paths = load(CoordinatorConfig, config).paths
    authority = tls.create_authority(paths, consortium, now)
    tls.create_server(authority, paths, hosts, now)
    return authority.fingerprint


def create_site(directory: Path, name: str, coordinator: str) -> tuple[Path, str]:
    """Make a site's folder: keys, secrets, site.toml, a policy that refuses everything, and the request.

    Args:
        directory: new or empty.
        name: of the hospital, a DNS label.
        coordinator: host:port.

    Returns:
        The request for the coordinator, and this site's identity fingerprint.

    Raises:
        StorageProblem: the folder is not empty, or cannot be written.
        ConfigError: a value is malformed; names it.
    """
    _require_empty(directory)
    files.make_private_directory(directory / "data")
    config = directory / "site.toml"
    files.write(config, f'name = "{name}"\ndata_dir = "data"\ncoordinator = "{coordinator}"\n'.encode())
    paths = load(SiteConfig, config).paths
    files.write(paths.policy, _POLICY.encode())
    create_secrets(Places(paths), os.urandom)
    request = directory / f"{name}.request.json"
    files.write(request, enrolment.request(paths, name))
    return request, fingerprint(enrolment.load_identity(paths.identity).public)


def _require_empty(directory: Path) -> None:
    if directory.exists() and any(directory.iterdir()):
        raise StorageProblem(f"{directory}: not empty; nothing was changed, name a new folder")
    files.make_private_directory(directory)
