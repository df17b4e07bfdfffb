"""Everything before the first round: folders, keys, certificates, pinned peers, tables, budgets, and the signed study.

Each hospital does for itself what its people would do with the command line; the demo only carries the files between
them and reads the fingerprints "over the telephone".
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from harmonize.profile import load as load_profile
from models.algorithms.protection import KIND_OF, LOCKSTEP
from models.presets import PRESETS, Preset
from nodes import accounts as ledgers
from nodes import enrolment, files, tls
from nodes import study as studies
from nodes.config import CoordinatorConfig, SiteConfig, load
from nodes.demo import sources
from nodes.demo.cohort import Hospital
from nodes.drafting import draft
from nodes.fingerprint import fingerprint
from nodes.harmonising import Harmonised, harmonise
from nodes.policy import read_policy
from nodes.protocol import Terms
from nodes.provision import create_coordinator, create_site
from nodes.rounds import Asked
from nodes.signing import approve_and_sign
from nodes.store import SiteStore
from nodes.study import Study
from secagg.manifest import Noise

PROFILE = "aml_core"
PRESET = "aml-small"
_BANDS = ((50, "20-49"), (100, "50-99"), (250, "100-249"), (500, "250-499"), (10**9, "500 or more"))

_FORMATS = {
    "bundles": "FHIR R4 bundles",
    "bulk": "FHIR bulk NDJSON",
    "registry": "CSV: semicolons, decimal commas, dd.mm.yyyy, WBC per µL",
    "redcap": "CSV: REDCap names and codes, ISO dates",
}

_POLICY = """\
minimum_roster = {roster}
minimum_collusion = 1
minimum_cohort = 20
allowed_profiles = ["{profile}"]
allowed_query_kinds = ["{training}", "breslow", "concordance", "calibration",
                       "score-histogram-members", "score-histogram-nonmembers"]
minimum_suite = "X25519-ML-KEM-768-HKDF-SHA256-AES-256-CTR"
allow_without_dp = {without_dp}

[accounts.training]
max_epsilon_per_study = {epsilon}
max_epsilon_total = {total}
delta = {delta}

[accounts.holdout]
max_epsilon_per_study = {epsilon}
max_epsilon_total = {total}
delta = {delta}

[peers]
"""


@dataclass(frozen=True)
class DemoSite:
    """One hospital of the demo: its data, its folder, its configuration, and how it was harmonised."""

    hospital: Hospital
    folder: Path
    config: SiteConfig
    format: str
    table: Harmonised

    @property
    def config_file(self) -> Path:
        """site.toml."""
        return self.folder / "site.toml"


@dataclass(frozen=True)
class Consortium:
    """All parties, and the study that every site has signed."""

    coordinator: CoordinatorConfig
    coordinator_file: Path
    sites: tuple[DemoSite, ...]
    study: Study
    study_file: Path


def size_band(patients: int) -> str:
    """What a person types in at registration; the demo types it for him."""
    return next(name for limit, name in _BANDS if patients < limit)


def found(
    root: Path,
    hospitals: list[Hospital],
    port: int,
    terms: Terms,
    pace: float,
    now: dt.datetime,
    *,
    preset: Preset | None = None,
    algorithm: Asked | None = None,
) -> Consortium:
    """Provision a consortium below `root` and have every site sign one study.

    Args:
        root: an empty folder, or none yet.
        hospitals: with their patients.
        port: where the coordinator will listen on loopback.
        terms: privacy and federation of the study.
        pace: shortest time between two rounds, seconds.
        now: the time everything is made.
        preset: model and training constants; default `PRESET`.
        algorithm: what trains; None for lockstep.
    """
    telephone = create_coordinator(
        root / "coordinator", "haemfed demo", f"127.0.0.1:{port}", ["localhost", "127.0.0.1"], now
    )
    coordinator_file = root / "coordinator" / "coordinator.toml"
    if pace:
        files.write(coordinator_file, coordinator_file.read_bytes() + f"pace = {pace}\n".encode())
    coordinator = load(CoordinatorConfig, coordinator_file)
    authority = tls.load_authority(coordinator.paths)
    identities: dict[str, bytes] = {}
    for hospital in hospitals:
        folder = root / hospital.name
        request, _ = create_site(folder, hospital.name, f"127.0.0.1:{port}")
        admitted = enrolment.admit(authority, enrolment.read_document(request), now)
        config = load(SiteConfig, folder / "site.toml")
        enrolment.accept(config.paths, admitted.bundle, site=hospital.name, expected=telephone, now=now)
        identities[hospital.name] = admitted.identity
    training = KIND_OF[LOCKSTEP if algorithm is None else algorithm.name]
    sites = tuple(
        _prepare(root / each.name, each, rank, identities, terms, training, now) for rank, each in enumerate(hospitals)
    )
    study = draft(
        "aml-demo",
        "Prognosis of adults with acute myeloid leukaemia (demonstration on public data)",
        profile=load_profile(PROFILE),
        preset=preset or PRESETS[PRESET],
        sites=[(site.hospital.name, identities[site.hospital.name], size_band(len(site.hospital))) for site in sites],
        terms=terms,
        seed=b"haemfed demo, initial weights 1",
        not_after=(now + dt.timedelta(days=30)).isoformat(timespec="seconds"),
        algorithm=algorithm,
    )
    return Consortium(coordinator, coordinator_file, sites, study, _signed_by_all(root, study, sites, now))


def _prepare(
    folder: Path,
    hospital: Hospital,
    rank: int,
    identities: dict[str, bytes],
    terms: Terms,
    training: str,
    now: dt.datetime,
) -> DemoSite:
    config = load(SiteConfig, folder / "site.toml")
    limits = _POLICY.format(
        roster=max(3, (len(identities) + 1) // 2 + 1),
        profile=PROFILE,
        training=training,
        epsilon=terms.epsilon,
        total=terms.epsilon,
        delta=terms.delta,
        without_dp=str(terms.noise is Noise.NONE).lower(),
    )
    pins = "".join(f'{name} = "{fingerprint(key)}"\n' for name, key in identities.items() if name != hospital.name)
    files.write(config.paths.policy, (limits + pins).encode())
    with SiteStore(config.paths.database) as store:
        accounts = ledgers.of(config, store, lambda: now)
        kind, order = terms.budget, terms.order
        accounts.grant("training", terms.epsilon, terms.delta, kind=kind, order=order)
        accounts.grant("holdout", terms.holdout_epsilon, terms.holdout_delta, kind=kind, order=order)
    how = sources.dialect(rank)
    mapping = sources.write(hospital, folder / "source", how)
    table = harmonise(config, mapping, PROFILE, read_policy(config.paths.policy))
    return DemoSite(hospital, folder, config, _FORMATS[how.__name__], table)


def _signed_by_all(root: Path, study: Study, sites: tuple[DemoSite, ...], now: dt.datetime) -> Path:
    blank = root / "study-unsigned.json"
    files.write(blank, studies.SignedStudy(study).to_json())
    copies = []
    for site in sites:
        copy = site.folder / "study.json"
        approve_and_sign(site.config, blank, copy, now)
        copies.append(studies.parse(files.read(copy), str(copy)))
    merged = studies.merge(copies).to_json()
    for place in (root, *(site.folder for site in sites)):
        files.write(place / "study.json", merged)
    return root / "study.json"
