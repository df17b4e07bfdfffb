"""The generated page about the shipped presets of survival models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

from models.diseases import DISEASES
from models.presets import LEARNERS, PRESETS, VARIANTS, Preset

__all__ = ["page"]

_PREFACE: Final = """\
What `haemfed study draft --preset` takes for a survival model; every constant of the one that is named goes into the
study, which all hospitals sign. Presets of generators are in the [guide](../guides/synthetic-patients.md). A name says
learner, disease and variant:

- `private`: for a study with noise. Short and small: each step costs ε, and every parameter carries noise.
- `open`: for a study that is declared without noise (`--noise none`), which is **not differentially private**. Cox and
  DeepSurv take more steps, ridge penalties in place of the noise that would stop overfitting, and DeepSurv is an
  ensemble; for SAVAE and fusion nothing was found that is better than their private constants. The clip is large: it
  bounds a wrong record and protects nobody.

A variant is not enforced: a study with `private` constants may be declared without noise, and most `open` presets under
noise spend their ε on too many steps. No constant of a disease was chosen on patients with that disease;
where a search began with constants in which a cohort of that disease had a vote, the last column says so. Drafts of
DeepSurv's constants without noise were once tried on one deal of the IWG-PM cohort (MDS), which chose none of them.

| Column | Meaning |
|---|---|
| Network | widths of hidden layers; of an ensemble, how many members; length of the code |
| λ, κ | ridge penalty of the linear path, and of all other weights, on the sum over patients: no ε is spent on it |
| T / U | steps / uploads that a hospital may make |
| C | L2 clip of one patient's gradient, shared by the members |
| Step, η | step size of Adam, of `savae-wide`: momentum 0.9; polynomial-decay averaging of the iterates |
| B', m | bound and pseudo-deaths of the [recalibration](../explanation/deepsurv-under-dp.md) |
"""
_GENERAL: Final = """
The general presets have the grid of AML, whatever the profile. `aml-small` is the default, and what the tutorial and
the demo use.

The searches are `benchmarks/choose_preset.py` for `aml-small` and `benchmarks/models/tune.py` for the presets of
diseases (`make bench-preset`); their tables are `benchmarks/results/preset.json`. The constants of the two wide presets
are where the second search starts.
"""
_DISEASES: Final = """
## Diseases

Public guesses from the literature, which `models/diseases.py` names: edges of the baseline in years, log of deaths per
patient-year at the start, years at which calibration is reported, inner edges of the bins of risk at the first of them.

| Disease | Grid | Log-hazard | Reported | Bins |
|---|---|--:|---|---|
"""
_HEAD: Final = (
    "| Preset | Network | λ | κ | T / U | C | Step | η | B' | m | Chosen on |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n"
)


def page(generated: str) -> str:
    """The page; `generated` is the line that says so."""
    names = [f"{learner}-{disease}-{variant}" for variant, learner, disease in product(VARIANTS, LEARNERS, DISEASES)]
    of_diseases = [PRESETS[name] for name in names]
    general = [found for name, found in PRESETS.items() if name not in names]
    return (
        f"# Presets of survival models\n\n{generated}{_PREFACE}{_DISEASES}{''.join(_disease_rows())}"
        f"{_table('Presets of a disease', of_diseases)}{_table('General presets', general)}{_GENERAL}"
    )


def _disease_rows() -> Iterator[str]:
    for name, known in DISEASES.items():
        cells = (name, _list(known.years), f"{known.log_hazard:g}", _list(known.reported), _list(known.risk_edges))
        yield f"| {' | '.join(cells)} |\n"


def _table(title: str, presets: Sequence[Preset]) -> str:
    return f"\n## {title}\n\n{_HEAD}" + "".join(map(_row, presets))


def _row(chosen: Preset) -> str:
    cells = (
        f"`{chosen.name}`",
        _network(chosen),
        f"{chosen.linear_penalty:g}",
        f"{chosen.hidden_penalty:g}",
        f"{chosen.steps} / {chosen.uploads}",
        f"{chosen.clip:g}",
        f"{chosen.learning_rate:g}",
        f"{chosen.averaging:g}",
        f"{chosen.breslow_bound:g}",
        f"{chosen.breslow_pseudo_events:g}",
        chosen.provenance,
    )
    return f"| {' | '.join(cells)} |\n"


def _network(chosen: Preset) -> str:
    parts = [", ".join(map(str, chosen.hidden)) or "linear"]
    if chosen.members > 1:
        parts.append(f"{chosen.members} members")
    if chosen.latent:
        parts.append(f"code {chosen.latent}")
    if chosen.learner == "savae":
        parts.append(f"weight of time {chosen.time_weight:g}, of divergence {chosen.kl_weight:g}")
    return "; ".join(parts)


def _list(values: Sequence[float]) -> str:
    return ", ".join("1/12" if math.isclose(value, 1 / 12) else f"{value:g}" for value in values)
