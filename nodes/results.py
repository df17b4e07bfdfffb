"""What a finished run leaves in its folder: the model file, equal at every site, and what was released beside it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import msgspec
import rfc8785

from dp.queries import Account
from models.algorithms.protection import LOCKSTEP
from models.generators.file import StoredGenerator
from models.predict import SurvivalModel
from nodes import files, plans
from nodes.errors import StorageProblem
from nodes.evidence import AttackSums
from nodes.places import Places
from nodes.site import Finished
from nodes.study import Study
from secagg.manifest import Noise

MODEL = "model.safetensors"
RELEASED = "released.json"

_ORIGIN = "Learned from the patients of the hospitals named, under their treatment of the time; no medical device."
_BLURRED = "Differential privacy blurs effects that few patients carry."
_EXACT = "Exact sums of the patients are inside. Treat this file, and what is made of it, like their data."
_LIMITS = {
    False: ("Survival is not predicted beyond the horizon.",),
    True: (
        "Synthetic patients must not be read as evidence on a treatment.",
        "What depends on more columns at a time than the learner looks at is lost.",
    ),
}


class Released(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Released beside the model: scores, sums and the audit's two histograms; equal at every site.

    Args:
        evaluation: summary of the released holdout scores; empty for a generator.
        completed: kind of sum → how many were completed; a kind without any is not in it.
        largest_roster: most sites in one sum.
        members, nonmembers: noisy score histograms, null where not released.
        transcript: digest of all sums, hex.
        protection: what the study's noise is, in words; empty in files of earlier versions.
    """

    evaluation: dict[str, object]
    completed: dict[str, int]
    largest_roster: int
    members: tuple[float, ...] | None
    nonmembers: tuple[float, ...] | None
    transcript: str
    protection: str = ""

    @property
    def attack(self) -> AttackSums:
        """The histograms as the audit takes them."""
        return AttackSums(self.members, self.nonmembers)


def tool() -> str:
    """Name and version of this software."""
    return f"haemfed {version('haemfed')}"


def write_results(places: Places, finished: Finished) -> Path:
    """Write model and released numbers; returns the model file.

    Raises:
        StorageProblem: disk full, or not writable; nothing is half-written.
    """
    folder = places.run(finished.study.run_id)
    files.make_private_directory(folder)
    model = folder / MODEL
    files.write(model, finished.left.to_bytes(_card(finished)))
    released = Released(
        finished.left.evaluation,
        dict(sorted(finished.completed.items())),
        finished.largest_roster,
        finished.left.attack.members,
        finished.left.attack.nonmembers,
        finished.transcript,
        finished.study.protection,
    )
    files.write(folder / RELEASED, rfc8785.dumps(msgspec.to_builtins(released)))
    return model


def load_results(places: Places, study: Study) -> tuple[bytes, SurvivalModel | StoredGenerator, Released]:
    """Read what `write_results` wrote.

    Raises:
        StorageProblem: the run has not finished here, or a file is damaged.
        ArtefactError: the model file is damaged.
    """
    folder = places.run(study.run_id)
    data = files.read(folder / MODEL)
    model = plans.model_in(study, data)
    try:
        released = msgspec.json.decode(files.read(folder / RELEASED), type=Released)
    except msgspec.DecodeError as error:
        raise StorageProblem(f"{folder / RELEASED}: damaged ({error}); run the site again on this study") from error
    return data, model, released


def _card(finished: Finished) -> dict[str, object]:
    study = finished.study
    how = {} if plans.is_generator(study) else {"algorithm": study.learning.algorithm or {"name": LOCKSTEP}}
    return how | {
        "profile": {"name": study.profile, "digest": study.profile_digest},
        "study": {"name": study.name, "digest": study.digest().hex(), "run": study.run_id.hex()},
        "transcript": finished.transcript,
        "metrics": finished.left.evaluation,
        "intended_use": study.purpose,
        "limits": [
            _ORIGIN,
            _EXACT if study.privacy.noise is Noise.NONE else _BLURRED,
            *_LIMITS[plans.is_generator(study)],
        ],
        "privacy": privacy_of(study),
        "software": tool(),
    }


def privacy_of(study: Study) -> dict[str, object]:
    """The guarantee as a model card states it."""
    named: dict[str, object] = {"protection": study.protection, "noise": study.privacy.noise.value}
    if study.privacy.noise is Noise.NONE:
        return named | {"epsilon": "not bounded", "against": "the coordinator alone, and only as a reader of uploads"}
    rule, units = study.filter(Account.TRAINING), study.units(Account.TRAINING)
    return named | {
        "unit": "one patient, add or remove",
        "epsilon": study.epsilon(Account.TRAINING),
        "delta": study.privacy.delta,
        "epsilon_at_delta_1e-6": rule.epsilon(units, 1e-6),
        "budget": str(rule),
        "against": f"coordinator and {study.privacy.collusion} colluding site(s)",
    }
