"""From a source folder to this site's canonical table, written whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harmonize import mapping as mappings
from harmonize import sources
from harmonize.profile import Profile, load
from harmonize.quality import Quality
from harmonize.table import build
from nodes import files
from nodes.config import SiteConfig
from nodes.errors import StorageProblem
from nodes.places import Places, load_secrets
from nodes.policy import Policy, check_cohort


@dataclass(frozen=True)
class Harmonised:
    """What a run wrote, for the person at this site only.

    Args:
        patients: usable patients.
        digest: digest of the table, names the snapshot.
        table: where it lies.
        report: the local quality report (HTML).
        quality: the same, typed.
    """

    patients: int
    digest: str
    table: Path
    report: Path
    quality: Quality


def harmonise(config: SiteConfig, mapping: Path, profile_name: str, policy: Policy) -> Harmonised:
    """Read a source and store table and quality report.

    Args:
        config: the site.
        mapping: mapping file; its folder is the source folder.
        profile_name: a shipped profile or a path.
        policy: this site's refusals; the cohort's size is checked here, by a person, before any study.

    Raises:
        ConfigError: mapping or profile are wrong.
        DataProblem: the source cannot be read or trusted; the previous table stays.
        PolicyRefusal: `minimum_cohort` is not set.
        CohortTooSmall: fewer patients than `minimum_cohort`; the report is written, the table is not.
        StorageProblem: disk full, or not writable.
    """
    profile: Profile = load(profile_name)
    places = Places(config.paths)
    secrets = load_secrets(places)
    try:
        read = sources.read(mapping.parent, mappings.load(mapping, profile), profile)
        table, quality = build(read, profile, secrets.pseudonym)
    except OSError as error:
        raise StorageProblem(f"{mapping.parent}: {error.strerror or error}") from error
    target, report = places.table(profile.profile), places.quality(profile.profile, "html")
    files.make_private_directory(target.parent)
    files.write(report, quality.render_html().encode(), private=True)
    files.write(places.quality(profile.profile, "json"), quality.operation_outcome_json(), private=True)
    check_cohort(policy, len(table), report)
    files.write(target, table.to_parquet_bytes(), private=True)
    return Harmonised(len(table), table.digest, target, report, quality)
