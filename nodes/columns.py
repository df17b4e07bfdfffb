"""Which columns a study has, by modality: the one authority that drafts, checks and pages for people ask.

A survival study's columns are ordered by modality (`harmonize.modalities`); a fusion network has a block for each.
Sites and stored models find their columns by name, never by position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harmonize import modalities
from harmonize.modalities import Modality
from harmonize.profile import Profile
from models.generators.dictionary import of_profile
from models.generators.study import Settings
from models.presets import Preset
from nodes.cohort import study_profile
from nodes.errors import StudyInvalid
from nodes.study import Study

__all__ = ["Columns", "chosen", "described", "lines", "named", "require_fit", "summary"]

_GRID = (0.0, 1.0)  # a dictionary has one; columns do not depend on it


@dataclass(frozen=True)
class Columns:
    """Columns of a study.

    Args:
        names: in the study's order.
        modalities: that have some of them, with these; in the order of the profile.
        left_out: modalities of the profile without any.
    """

    names: tuple[str, ...]
    modalities: tuple[Modality, ...]
    left_out: tuple[Modality, ...]

    @property
    def blocks(self) -> tuple[int, ...]:
        """Widths of the modalities."""
        return tuple(len(each.columns) for each in self.modalities)

    @property
    def vectors(self) -> tuple[int, ...]:
        """Which modalities are vectors, 0-based."""
        return tuple(place for place, each in enumerate(self.modalities) if each.vector)


def chosen(profile: Profile, preset: Preset | tuple[str, Settings], asked: Sequence[str] | None = None) -> Columns:
    """The columns of a new study.

    | learner           | nobody asks                   | modalities are asked for           |
    |-------------------|-------------------------------|------------------------------------|
    | fusion            | all modalities                | these                              |
    | other networks    | all but vectors               | these; a vector's numbers one by one |
    | a generator       | all but vectors, in profile order | refused                        |

    Args:
        profile: of the study.
        preset: of a survival model, or (learner, settings) of a generator.
        asked: names of modalities in any order; None for what the learner can use.

    Raises:
        StudyInvalid: a name that the profile does not have, or any for a generator.
    """
    known = modalities.of(profile)
    if not isinstance(preset, Preset):
        if asked is not None:
            raise StudyInvalid(f"a generator ({preset[0]}) learns every input of the profile: leave modalities out")
        return named(profile, tuple(variable.name for variable in profile.inputs))
    if asked is None:
        asked = [each.name for each in known if preset.learner == "fusion" or not each.vector]
    names = [each.name for each in known]
    if unknown := [name for name in asked if name not in names]:
        raise StudyInvalid(
            f"profile {profile.profile!r} has no modality {', '.join(map(repr, unknown))}; it has {', '.join(names)}"
        )
    if not asked:
        raise StudyInvalid(f"a study needs at least one modality; profile {profile.profile!r} has {', '.join(names)}")
    return named(profile, tuple(column for each in known if each.name in asked for column in each.columns))


def named(profile: Profile, names: tuple[str, ...]) -> Columns:
    """The columns of these names, whatever their order.

    Raises:
        StudyInvalid: a name that is no column of the profile, or a vector that is not whole and in order.
    """
    used, left_out = [], []
    wanted = set(names)
    for each in modalities.of(profile):
        columns = tuple(column for column in each.columns if column in wanted)
        if not columns:
            left_out.append(each)
            continue
        first = names.index(columns[0])
        if each.vector and names[first : first + len(columns)] != each.columns:
            raise StudyInvalid(f"columns of the vector {each.name}: not all {len(each.columns)} of them in order")
        used.append(Modality(each.name, columns, each.vector))
        wanted -= set(columns)
    if wanted:
        unknown = modalities.listed([name for name in names if name in wanted])
        raise StudyInvalid(f"profile {profile.profile!r} gives models no column {unknown}")
    return Columns(names, tuple(used), tuple(left_out))


def described(preset: Preset, profile: Profile, columns: Columns) -> Preset:
    """The preset for a study of these columns."""
    two = {column.name for column in of_profile(profile, _GRID).columns if column.values == (0.0, 1.0)}
    binary = tuple(place for place, name in enumerate(columns.names) if name in two)
    return preset.described(binary=binary, blocks=columns.blocks, vectors=columns.vectors)


def require_fit(study: Study) -> None:
    """Refuse a survival study whose columns are not its profile's, or a fusion whose blocks are not its modalities.

    A fusion without blocks takes all columns as one, unless a vector is among them.

    Raises:
        StudyInvalid: names what does not fit.
        DataProblem: this version ships another profile than the study names.
    """
    columns = named(study_profile(study), study.learning.features)
    preset = Preset.from_json(study.learning.preset)
    if preset.learner != "fusion" or ((preset.blocks, preset.vectors) == ((), ()) and not columns.vectors):
        return
    grouped = tuple(column for each in columns.modalities for column in each.columns)
    if (preset.blocks, preset.vectors, study.learning.features) != (columns.blocks, columns.vectors, grouped):
        raise StudyInvalid(
            f"study {study.name!r} has blocks of {preset.blocks} columns, vectors {preset.vectors}, which are not its "
            f"modalities: {_list(columns.modalities)}; ask its author for another one"
        )


def summary(study: Study) -> Iterator[str]:
    """`lines` for a person who is asked to sign.

    Raises:
        DataProblem: this version ships another profile than the study names.
    """
    return lines(named(study_profile(study), study.learning.features))


def lines(columns: Columns) -> Iterator[str]:
    """What a model sees of a profile, and what not."""
    yield f"columns: {_list(columns.modalities)}"
    if columns.left_out:
        yield f"not used of the profile: {_list(columns.left_out)}"


def _list(found: Sequence[Modality]) -> str:
    return ", ".join(
        f"{each.name} (a vector of {len(each.columns)})" if each.vector else f"{each.name} {len(each.columns)}"
        for each in found
    )
