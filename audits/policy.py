"""What a consortium tolerates, as data: thresholds that each say where they come from and why.

An unknown key is an error, a missing one too (except for the optional rates): a policy that is misspelt must
not silently be a weaker policy. The digest of the canonical form is signed with every certificate.
"""

from __future__ import annotations

import hashlib
import tomllib
from importlib import resources
from typing import Annotated

import msgspec
import rfc8785

from audits.errors import PolicyError

__all__ = ["SHIPPED", "Policy", "Signers", "Threshold", "Thresholds", "load", "parse"]

SHIPPED = ("research", "consortium")
"""Names of the policies in `audits/policies/`; `research` is the default of the command line."""

_Sentence = Annotated[str, msgspec.Meta(min_length=12, max_length=600)]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{1,39}$")]

AUDITOR = "auditor"
DPO = "dpo"


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number of a policy.

    Attributes:
        value: the limit.
        source: where the number comes from (a paper, a norm, a closed form).
        rationale: why it is this number here.
    """

    value: float
    source: _Sentence
    rationale: _Sentence


class Signers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which roles must have signed: the auditor and the DPO, with two keys."""

    value: tuple[str, ...]
    source: _Sentence
    rationale: _Sentence


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The closed list of what a policy can limit; unit and range of each in `RANGES`."""

    epsilon_max: Threshold
    delta_max: Threshold
    mu_max: Threshold
    alpha: Threshold
    auc_upper_max: Threshold
    nonmembers_min: Threshold
    positive_control_auc_min: Threshold
    noise_deficit_detectable_max: Threshold
    baseline_grid_days_min: Threshold
    expiry_days: Threshold
    required_signers: Signers
    tpr_at_10pct_upper_max: Threshold | None = None
    tpr_at_1pct_upper_max: Threshold | None = None


RANGES: dict[str, tuple[float, float, str]] = {
    "epsilon_max": (0.0, 50.0, "ε at the study's δ, per account"),
    "delta_max": (0.0, 1e-3, "δ, a probability"),
    "mu_max": (0.0, 10.0, "μ of Gaussian differential privacy, per account"),
    "alpha": (1e-6, 0.2, "error of each one-sided confidence bound"),
    "auc_upper_max": (0.5, 1.0, "upper confidence bound of the attack's area under the ROC curve"),
    "nonmembers_min": (10.0, 1e6, "hold-out patients over all sites"),
    "positive_control_auc_min": (0.5, 1.0, "AUC of the same attack on a deliberately overfitted twin"),
    "noise_deficit_detectable_max": (1e-4, 0.5, "relative lack of noise that the self-check would have seen"),
    "baseline_grid_days_min": (1.0, 3650.0, "days of the narrowest interval of the released baseline hazard"),
    "expiry_days": (1.0, 3650.0, "days a certificate is valid"),
    "tpr_at_10pct_upper_max": (0.1, 1.0, "upper bound of the attack's hit rate at 10 % false alarms"),
    "tpr_at_1pct_upper_max": (0.01, 1.0, "upper bound of the attack's hit rate at 1 % false alarms"),
}


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named, versioned set of thresholds for one kind of recipient.

    Attributes:
        name: lower-case name.
        version: grows with every change, ≥ 1.
        recipient: whom the released model is for, in words.
        thresholds: the limits.
    """

    name: _Name
    version: Annotated[int, msgspec.Meta(ge=1)]
    recipient: _Sentence
    thresholds: Thresholds

    def digest(self) -> str:
        """SHA-256 (hex) over the canonical JSON (RFC 8785) of the content, not of the file's layout."""
        return hashlib.sha256(rfc8785.dumps(msgspec.to_builtins(self))).hexdigest()

    @property
    def alpha(self) -> float:
        """Error of each one-sided bound."""
        return self.thresholds.alpha.value


def parse(text: str, name: str) -> Policy:
    """Read a policy from TOML.

    Args:
        text: content of the file.
        name: what to call it in an error message.

    Raises:
        PolicyError: not TOML, an unknown or missing key, a value out of its range, a threshold without
            source or rationale, unknown signers.
    """
    try:
        policy = msgspec.convert(tomllib.loads(text), Policy)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"policy {name}: not valid TOML ({error}); mend the file") from None
    except msgspec.ValidationError as error:
        raise PolicyError(f"policy {name}: {error}; see docs/explanation/what-the-audit-shows.md") from None
    for key, (low, high, unit) in RANGES.items():
        threshold: Threshold | None = getattr(policy.thresholds, key)
        if threshold is not None and not low <= threshold.value <= high:
            raise PolicyError(f"policy {name}: {key} = {threshold.value:g} is not in [{low:g}, {high:g}] ({unit})")
    signers = policy.thresholds.required_signers.value
    if signers != (AUDITOR, DPO):
        raise PolicyError(f"policy {name}: required_signers must be ['{AUDITOR}', '{DPO}']; verification asks for both")
    return policy


def load(name: str) -> Policy:
    """Load a shipped policy by name.

    Raises:
        PolicyError: no policy of that name is shipped.
    """
    if name not in SHIPPED:
        raise PolicyError(f"no policy named {name!r}; shipped are {', '.join(SHIPPED)}, or give a TOML file")
    return parse((resources.files("audits") / "policies" / f"{name}.toml").read_text("utf-8"), name)
