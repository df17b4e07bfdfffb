"""From a source folder to this site's canonical table, written whole or not at all."""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from audits import quality_report
from harmonize import mapping as mappings
from harmonize import sources
from harmonize.cohort.assemble import assemble
from harmonize.errors import HarmonizeError
from harmonize.profile import Profile, load
from harmonize.reporting.disclosure import shareable
from harmonize.reporting.quality import Quality
from harmonize.table import Table
from nodes import files, provenance
from nodes.config import SiteConfig
from nodes.counting import counted
from nodes.errors import ConfigError, StorageProblem, from_core
from nodes.fhir_cohort import fetching
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


def harmonise(
    config: SiteConfig,
    mapping: Path,
    profile_name: str | None,
    policy: Policy,
    read: Callable[[int], None] | None = None,
    *,
    strict: bool = False,
) -> Harmonised:
    """Read a source and store table, quality report and provenance.

    Args:
        config: the site.
        mapping: mapping file; its folder is the source folder.
        profile_name: a shipped profile or a path; None means the one that the mapping file names.
        policy: this site's refusals; the cohort's size is checked here, by a person, before any study.
        read: told the bytes of the source as they are read.
        strict: judge FHIR resources by the whole of FHIR R4, too; adds findings, changes no table.

    What failed is noted for `failed`, whatever is raised.

    Raises:
        ConfigError: mapping or profile are wrong.
        DataProblem: the source cannot be read or trusted; the previous table stays.
        PolicyRefusal: `minimum_cohort` is not set.
        CohortTooSmall: fewer patients than `minimum_cohort`; the report is written, the table is not.
        StorageProblem: disk full, or not writable.
    """
    places = Places(config.paths)
    with _noted(places, ""):
        profile = load(profile_name or profile_of(mapping))
    with _noted(places, profile.profile):
        return _harmonised(places, mapping, profile, policy, read, strict=strict)


def _harmonised(
    places: Places,
    mapping: Path,
    profile: Profile,
    policy: Policy,
    read: Callable[[int], None] | None,
    *,
    strict: bool,
) -> Harmonised:
    secrets = load_secrets(places)
    plan = mappings.load(mapping, profile)
    folder = mapping.parent if read is None else counted(mapping.parent, read)
    try:
        items = sources.read(folder, plan, profile, strict=strict, fetch=fetching(mapping.parent, profile))
        assembled = assemble(items, profile, secrets.pseudonym)
    except OSError as error:
        raise StorageProblem(f"{mapping.parent}: {error.strerror or error}") from error
    table = Table.from_columns(assembled.columns, profile)
    target = places.table(profile.profile)
    files.make_private_directory(target.parent)
    report = _write_report(places, profile, assembled.quality)
    check_cohort(policy, len(table), report)
    systems = sorted({source.patient.system for source in plan.sources})
    cited = provenance.to_bytes(assembled.provenance, profile, table.digest, systems)
    # First the places, then the table: between the two a crash leaves a table whose digest the places do not name.
    files.write(places.provenance(profile.profile), cited, private=True)
    files.write(target, table.to_parquet_bytes(), private=True)
    return Harmonised(len(table), table.digest, target, report, assembled.quality)


def profile_of(mapping: Path) -> str:
    """The profile that a mapping file names.

    Raises:
        ConfigError: missing, not TOML, or without profile.
    """
    try:
        name = tomllib.loads(mapping.read_text(encoding="utf-8-sig")).get("profile")
    except FileNotFoundError:
        raise ConfigError(f"{mapping}: not found; write a mapping file beside the data") from None
    except OSError as error:
        raise ConfigError(f"{mapping}: {error.strerror}; give the mapping file, not its folder") from None
    except ValueError as error:  # of TOML, or of UTF-8: neither is a patient's record
        what = "not UTF-8; save it as UTF-8" if isinstance(error, UnicodeDecodeError) else f"not TOML: {error}"
        raise ConfigError(f"{mapping.name}: {what}") from None
    except RecursionError:
        raise ConfigError(f"{mapping.name}: nested too deep for a mapping file") from None
    if not isinstance(name, str):
        raise ConfigError(f'{mapping.name}: profile is missing; write profile = "mds", or give --profile')
    return name


def input_bytes(mapping: Path, profile_name: str | None) -> int | None:
    """Size of the files that a mapping names; None if that is not known before (a bulk manifest, a server).

    Of a wrong mapping or profile 0: what is wrong is for `harmonise` to say, and to write down.
    """
    found: set[Path] = set()
    try:
        plan = mappings.load(mapping, load(profile_name or profile_of(mapping)))
        for source in plan.sources:
            if isinstance(source, mappings.Bulk | mappings.Server):
                return None
            found.update(place.path for place in sources.files.find(mapping.parent, source.files))
    except (ConfigError, HarmonizeError):
        return 0
    return sum(path.stat().st_size for path in found)


def stored_profile(places: Places, name: str | None) -> Profile:
    """The profile of a stored report: the named one, or the only one.

    Raises:
        ConfigError: there is no report yet, or several and none is named; no such profile.
    """
    if name is not None:
        return load(name)
    known = sorted(path.name.removesuffix(_DATA) for path in places.tables.glob(f"*{_DATA}"))
    if not known:
        raise ConfigError("no quality report yet; run: haemfed harmonize run MAPPING")
    if len(known) > 1:
        raise ConfigError(f"there are reports for {', '.join(known)}; say which with --profile")
    return load(known[0])


def stored_report(places: Places, profile: Profile) -> Quality:
    """The report of the last run under a profile, also of one that was too small for a table.

    Raises:
        StorageProblem: there is none.
        DataProblem: damaged, or of another version.
    """
    return Quality.from_json(files.read_private(places.quality(profile.profile, "data.json")))


def failed(places: Places, profile: Profile) -> tuple[str, str] | None:
    """What to say beside a stored report that is not of the latest run; None if it is.

    Returns:
        When and why the latest run failed, and when the report was made (UTC).

    Raises:
        StorageProblem: the note about it cannot be read.
    """
    notes = [path for path in (_note(places, profile.profile), _note(places, "")) if path.exists()]
    if not notes:
        return None
    note = max(notes, key=lambda path: path.stat().st_mtime)
    why = files.read_private(note).decode("utf-8", "replace")
    report = places.quality(profile.profile, "data.json")
    return f"the latest run ({_when(note)}) failed: {why}", f"this report was made {_when(report)}"


def share(places: Places, profile: Profile) -> tuple[Path, bytes]:
    """Write the shareable page beside the table; a person hands it over, no program does.

    Returns:
        The page's path, and the same as JSON.

    Raises:
        CohortTooSmall: fewer than 20 patients.
        DataProblem: the report was made under another version of the profile.
    """
    report = shareable(stored_report(places, profile), profile)
    target = places.quality(profile.profile, "shareable.html")
    files.write(target, quality_report.shareable_html(report, profile.title).encode(), private=True)
    return target, report.to_json()


_DATA = "-quality.data.json"


@contextmanager
def _noted(places: Places, profile: str) -> Iterator[None]:
    """A note beside the tables for as long as a run goes on, and after it, if it failed: also if it was killed."""
    note = _note(places, profile)
    files.write(note, b"it did not come to its end; if it is not still running, start it again", private=True)
    try:
        yield
    except BaseException as error:
        with suppress(StorageProblem):  # then the first note stays; what is raised says more
            files.write(note, str(from_core(error)).encode(), private=True)
        raise
    note.unlink()


def _note(places: Places, profile: str) -> Path:
    """Where a failed run is noted; "" is the profile of a run that failed before it had one."""
    return places.tables.with_name(f"harmonise-{profile}.failed" if profile else "harmonise.failed")


def _when(path: Path) -> str:
    return f"{dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC):%Y-%m-%d %H:%M} UTC"


def _write_report(places: Places, profile: Profile, quality: Quality) -> Path:
    report = places.quality(profile.profile, "html")
    files.write(report, quality_report.local_html(quality, profile.title).encode(), private=True)
    files.write(places.quality(profile.profile, "json"), quality.operation_outcome_json(), private=True)
    files.write(places.quality(profile.profile, "data.json"), quality.to_json(), private=True)
    return report
