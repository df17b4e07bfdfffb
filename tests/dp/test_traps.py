"""Every known trap of private training has a test, by name; what no other file tests is tested here.

Sources: Mironov 2012; Casacuberta et al. 2022 and Chua et al. 2024; the issues of Opacus, and what was measured on its
release 1.6. `TRAPS` says which test guards against which; docs/reference/proof-by-test.md says what it is good for.
"""

from __future__ import annotations

import ast
import copy
import random
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dp.bookkeeping import ClippedGradients
from dp.errors import MisuseError
from tests.dp.checks import kernel, way_out

ROOT = Path(__file__).resolve().parents[2]
HERE = "tests/dp/test_traps.py"

TRAPS: dict[str, tuple[str, ...]] = {
    # ---- the likelihood
    "a Cox partial likelihood under per-patient clipping": (
        "tests/models/test_losses.py::test_cox_partial_likelihood_is_a_type_error_under_dp",
        "tests/dp/test_bookkeeping.py::test_a_cox_partial_likelihood_that_pretends_is_found_out",
    ),
    "random neighbours find nothing: they have to be hostile": (
        "tests/dp/test_releases_adversary.py::test_a_planted_bug_is_caught",
        "tests/dp/test_releases_adversary.py::test_half_of_any_declared_bound_is_too_little",
    ),
    "exp overflows on one record": (
        "tests/models/test_deepsurv.py::test_risk_is_clipped_and_has_no_gradient_outside",
        "tests/models/test_data.py::test_inputs_are_clipped_to_the_public_bound",
    ),
    "a parameter outside every layer falls back to another engine": (
        "tests/models/test_deepsurv.py::test_opacus_finds_nothing_to_refuse_and_every_parameter_is_in_a_linear_layer",
        "tests/dp/test_bookkeeping.py::test_a_layer_without_a_tap_goes_through_opacus",
    ),
    "a grid or a horizon from the longest survivor": (
        "tests/models/test_data.py::test_durations_are_bounded",
        "tests/dp/test_releases_adversary.py::test_a_planted_bug_is_caught",
    ),
    "early stopping, the best epoch": (
        f"{HERE}::test_training_counts_its_steps_and_looks_at_nothing_else",
        "tests/dp/test_optimizer.py::test_public_update_refuses_what_it_cannot_promise",
    ),
    # ---- generators and critics
    "several records are one input of a critic": (
        "tests/dp/test_bookkeeping.py::test_whatever_ties_patients_together_is_found_out",
    ),
    "the second derivative of a gradient penalty": (f"{HERE}::test_a_gradient_penalty_is_bounded_per_patient",),
    "BatchNorm": ("tests/dp/test_bookkeeping.py::test_unsound_models_are_refused",),
    "ε is looked at after the epoch": (
        "tests/dp/test_ledger.py::test_an_overdraft_records_nothing",
        "tests/nodes/test_accounts.py::test_a_study_without_a_grant_does_not_fit",
    ),
    "a constructor seeds the generator that the noise comes from": (
        f"{HERE}::test_no_global_generator_reaches_the_noise_or_the_sample",
    ),
    "categories, means, ranges and log-frequencies found in the data": (
        "tests/harmonize/test_table_file.py::test_bounds_are_public",
        "tests/dp/test_bookkeeping.py::test_a_standardising_buffer_is_refused",
        "tests/dp/test_releases_adversary.py::test_a_planted_bug_is_caught",
    ),
    # ---- around the gradient
    "NaN, inf and 0 · NaN": (
        "tests/dp/test_bookkeeping.py::test_a_record_out_of_this_world_contributes_exactly_zero",
        "tests/dp/test_rows.py::test_a_record_that_is_no_number_contributes_exactly_zero",
    ),
    "a normaliser that depends on the number of patients": (
        "tests/dp/test_optimizer.py::test_the_normaliser_does_not_know_the_number_of_patients",
    ),
    "steps and sampling rates from the length of a table": (
        f"{HERE}::test_training_counts_its_steps_and_looks_at_nothing_else",
    ),
    "a sampler with another probability than is charged": (
        "tests/dp/test_optimizer.py::test_a_sampler_that_is_not_charged_for_is_refused",
        "tests/nodes/test_modes.py::test_a_sampler_of_another_probability_than_is_charged_is_refused",
    ),
    "noise from one rank only": (
        "tests/dp/test_conformance.py::test_one_missing_share_shows",
        "tests/dp/test_conformance.py::test_residuals_are_the_noise_that_is_charged",
    ),
    "shuffled batches accounted as Poisson samples": (
        "tests/dp/test_sampling.py::test_samples_are_binomial_and_independent",
        "tests/dp/test_accounting_sampled.py::test_shuffled_batches_are_not_poisson_samples",
    ),
    "a sample that is not secret, or drawn once for two uploads": (
        "tests/dp/test_sampling.py::test_the_coins_are_not_shown",
        "tests/nodes/test_modes.py::test_a_round_that_is_done_again_draws_again",
    ),
    "an empty batch, an empty hospital": (
        "tests/dp/test_optimizer.py::test_an_empty_sample_is_an_upload_of_zeros",
        "tests/dp/test_optimizer.py::test_an_empty_hospital_takes_part_with_zeros",
    ),
    "buffers and standardisation layers pass the validator": (
        "tests/dp/test_bookkeeping.py::test_a_standardising_buffer_is_refused",
    ),
    "a search for hyper-parameters is many runs": (
        "tests/dp/test_search.py::test_ten_runs_of_epsilon_one",
        "tests/dp/test_search.py::test_the_other_library_agrees_and_a_search_is_never_cheaper_than_its_run",
    ),
    "dropout": ("tests/dp/test_bookkeeping.py::test_dropout_is_refused",),
    "noise from a seeded, global generator": (
        f"{HERE}::test_no_global_generator_reaches_the_noise_or_the_sample",
        "tests/dp/test_optimizer.py::test_noise_comes_from_the_door_alone",
    ),
    "a sum of floats is not the sum": (
        "tests/dp/test_rows.py::test_float32_cancelling_halves",
        "tests/dp/test_bookkeeping.py::test_the_sum_is_exactly_the_sum_of_its_patients",
    ),
    "a matrix library adds the rows of a larger table in another order": (
        "tests/dp/test_bookkeeping.py::test_a_matrix_library_whose_rows_differ_is_replaced",
        "tests/dp/test_rowwise.py::test_rows_have_the_same_bits_whoever_else_is_there",
    ),
    "gradient accumulation and virtual batches": (
        "tests/dp/test_optimizer.py::test_opacus_ways_around_the_door_are_closed",
    ),
    "a crash between release and debit": (
        "tests/dp/test_ledger.py::test_crash_between_debit_and_upload_over_counts",
        "tests/nodes/test_store_kill.py::test_kill_at_random_moments",
        "tests/nodes/test_anchor.py::test_killed_at_every_statement_of_an_upload",
    ),
    "norms, losses and batch sizes in logs": (
        "tests/nodes/test_logs.py::test_no_field_invites_a_patient",
        "tests/nodes/test_logs.py::test_what_is_not_listed_is_dropped_and_counted",
    ),
    # ---- accounting
    "Opacus' Gaussian accountant lies below the truth": (
        "tests/dp/test_accounting_sampled.py::test_opacus_gaussian_accountant_is_below_the_truth",
    ),
    "replace-one is more than twice add-or-remove-one": (
        "tests/dp/test_accounting_sampled.py::test_a_patient_replaced_by_his_opposite_is_the_worst_case",
    ),
    "composition of later studies": (
        "tests/dp/test_accounting.py::test_ten_studies_of_epsilon_one_are_three_and_a_half",
    ),
    "studies chosen after results: PLD is no filter": (
        "tests/dp/test_budget.py::test_budget_is_a_filter",
        "tests/dp/test_rdp.py::test_a_filter_at_one_order_holds_against_an_adaptive_adversary",
    ),
    "drop-outs and colluders take their noise away": (
        "tests/dp/test_accounting.py::test_collusion_numbers_at_full_batch",
        "tests/dp/test_accounting_sampled.py::test_drop_out_and_collusion_numbers_over_samples",
    ),
    "a patient known to several hospitals": (
        "tests/dp/test_accounting_sampled.py::test_a_patient_of_several_hospitals_that_sample",
    ),
    "hospitals that sample with different probabilities": (
        "tests/dp/test_accounting_sampled.py::test_a_patient_pays_for_the_sampling_of_his_own_hospital",
    ),
    "δ ≥ 1/n": ("tests/dp/test_budget.py::test_delta_at_or_above_one_over_the_declared_patients",),
    "reading a ledger imports what it names": ("tests/dp/test_events.py::test_from_named_tuple_import_trap",),
    "a second accountant that disagrees": (
        "tests/dp/test_accounting.py::test_accountants_that_disagree_stop_everything",
    ),
    # ---- the lattice
    "rounding moves a sum by √d, not by √d/2": (
        "tests/dp/test_noise_shares.py::test_lattice_sensitivity_of_neighbouring_hospitals",
    ),
    "a sum of rounded Gaussians is no rounded Gaussian": (
        "tests/dp/test_accounting_lattice.py::test_a_composition_over_the_lattice_stays_within_its_slack",
        "tests/dp/test_discrete_gaussian.py::test_the_table_is_exact",
    ),
    "narrow lanes accounted as a Gaussian": (
        "tests/dp/test_narrow.py::test_no_divergence_exceeds_the_bound_and_some_come_near",
        "tests/dp/test_budget.py::test_a_gdp_budget_holds_full_batches_on_the_wide_lattice_only",
    ),
    # ---- mixtures, marginals, evaluation
    "a mixture fitted to real means, ranges checked against real extremes": (
        "tests/dp/test_releases_adversary.py::test_no_neighbour_moves_a_sum_by_more_than_its_sensitivity",
    ),
    "m marginals at the sensitivity of one": (
        "tests/dp/test_releases.py::test_sensitivities",
        "tests/dp/test_releases_adversary.py::test_a_planted_bug_is_caught",
    ),
    "a concordance index has the sensitivity n": (
        "tests/models/test_concordance.py::test_concordance_sensitivity_of_one_added_patient",
        "tests/models/test_concordance.py::test_brute_force_over_every_small_table",
    ),
}

NAMED: dict[str, tuple[str, ...]] = {
    "float32_cancelling_halves": ("tests/dp/test_rows.py::test_float32_cancelling_halves",),
    "removed_zero_patient": ("tests/dp/test_rows.py::test_removed_zero_patient",),
    "concordance_sensitivity": ("tests/models/test_concordance.py::test_concordance_sensitivity_of_one_added_patient",),
    "lira_count_adversarial_patient": (
        f"{HERE}::test_lira_count_adversarial_patient",
        "tests/audits/test_membership.py::test_one_patient_moves_other_patients_scores",
    ),
    "split_stable_under_insert": (f"{HERE}::test_split_stable_under_insert",),
    "aborted_round_epsilon": ("tests/dp/test_accounting.py::test_aborted_round_epsilon",),
    "late_upload_after_drop": (
        "tests/secagg/test_consent.py::test_late_upload_after_drop",
        "tests/secagg/test_attacks.py::test_late_upload_after_drop",
    ),
    "no_noise_smaller_roster_refused": (
        "tests/secagg/test_key_attacks.py::test_no_noise_smaller_roster_refused",
        "tests/secagg/test_key_attacks.py::test_no_noise_smaller_survivors_refused",
    ),
    "rollback_same_context": ("tests/secagg/test_attacks.py::test_rollback_same_context",),
    "cloned_ledger_fork": (
        "tests/dp/test_ledger.py::test_cloned_ledger_fork",
        "tests/dp/test_witness.py::test_cloned_ledger_fork",
    ),
    "query_confusion_same_length": ("tests/secagg/test_key_attacks.py::test_query_confusion_same_length",),
    "mode_confusion": ("tests/secagg/test_key_attacks.py::test_mode_confusion",),
}


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("trap", [*TRAPS, *NAMED])
def test_every_trap_has_its_test(trap: str) -> None:
    for test in (TRAPS | NAMED)[trap]:
        file, _, name = test.partition("::")
        assert name in names_in(file), f"{trap}: {test} is not there"


def test_training_counts_its_steps_and_looks_at_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of sums is the study's, for any number of patients; nothing is asked of a validation set.

    1/(1/n) loses a step for n = 93, 99, 105 (floats), and n decides how many batches a loader has.
    """
    from models.data import SurvivalData
    from models.presets import preset
    from models.training import fit, initial_weights

    small = replace(preset("aml-small"), hidden=(2,), steps=4)
    weights = initial_weights(small, 2, b"seed")
    ends, asked = [], []
    for count in (0, 1, 93, 99, 105):
        queries: list[bytes] = []

        def door(query: Any, contribution: Any, queries: list[bytes] = queries) -> Any:
            contribution()
            queries.append(query.digest())
            return np.cos(np.arange(query.length) + query.index)

        def query(index: int) -> Any:
            return replace(way_out.asked(), index=index, length=len(weights) // 8, sensitivity=small.clip)

        chance = np.random.default_rng(count)
        x = chance.normal(size=(count, 2))
        data = SurvivalData(x, x < 9, chance.exponential(size=count) * 500, chance.random(count) < 0.5)
        trained = fit(small, 2, weights, data, door, query)
        ends.append(trained.params)
        asked.append(queries)
        assert trained.steps_done == small.steps
    # What the released sums say is everything that the model is made of.
    assert ends[1:] == ends[:-1]
    assert asked[1:] == asked[:-1]


def test_no_global_generator_reaches_the_noise_or_the_sample() -> None:
    """Seeded alike before each upload, as a constructor of a library may do: noise and sample differ."""
    import os

    from nodes.errors import StudyStopped

    masked, drawn = [], []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 -- the generator that must not matter
        random.seed(0)
        scene = way_out.Scene(way_out.study(probability=0.5), [way_out.step(1), way_out.finish()], entropy=os.urandom)
        door = scene.door()

        def sample(door: Any = door) -> Any:
            drawn.append(door.sampling(64))
            return np.zeros(4)

        with pytest.raises(StudyStopped):
            way_out.ask(scene, way_out.asked(0.5), sample, door)
        masked += scene.masked
    assert masked[0] != masked[1]
    assert drawn[0] != drawn[1]


def penalty(model: nn.Module, x: Tensor) -> Tensor:
    """(‖∂D/∂x‖ − 1)² of each record, as critics are held to."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    return (slope.norm(dim=1) - 1) ** 2


def critic(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def test_a_gradient_penalty_is_bounded_per_patient() -> None:
    """Opacus' hooks stumble over the second derivative. Here it is refused, or each patient's part is bounded."""
    rows = torch.randn(20, 3, dtype=torch.float64)
    rows[3] *= 1e6
    rows[4] = float("nan")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one = ClippedGradients(critic(), penalty, clip=1.0, block=64)
            parts = [kernel.whole(one, [rows[i : i + 1]]) for i in range(20)]
            total = kernel.whole(one, [rows])
    except MisuseError:
        return
    assert total == [sum(column) for column in zip(*parts, strict=True)]
    assert all(kernel.square(part) <= 2**88 for part in parts)


def test_what_is_accepted_is_differentiated() -> None:
    rows, model = torch.randn(20, 3, dtype=torch.float64), critic()
    try:
        found = ClippedGradients(model, penalty, clip=1e3, block=64).sum([rows])
    except MisuseError:
        return
    other = copy.deepcopy(model)
    loss = penalty(other, rows).sum()
    slopes = torch.autograd.grad(loss, list(other.parameters()), allow_unused=True)
    parts = [
        (torch.zeros_like(p) if slope is None else slope).reshape(-1)
        for p, slope in zip(other.parameters(), slopes, strict=True)
    ]
    assert found == pytest.approx(torch.cat(parts).numpy(), abs=1e-4)


def test_split_stable_under_insert() -> None:
    """Whoever comes or goes, nobody else changes sides: the two accounts never meet in one patient."""
    from harmonize.split import in_holdout

    key, everybody = b"k" * 32, [f"{number:016x}" for number in range(400)]
    sides = {pid: in_holdout(key, pid) for pid in everybody}
    chance = random.Random(1)
    for _ in range(20):
        some = chance.sample(everybody, chance.randrange(1, 400))
        assert {pid: in_holdout(key, pid) for pid in some} == {pid: sides[pid] for pid in some}
    assert 0 < sum(sides.values()) < 400


def test_lira_count_adversarial_patient() -> None:
    """One hostile patient moves one count by one: references were trained on drawn patients, never on real ones."""
    from audits.histogram import MEMBERS, ScoreBins, ScoreHistogram
    from audits.sensitivity import joined
    from dp.queries import Neighbours
    from tests.audits.cohorts import Truth, patients, references
    from tests.audits.test_references import extremes

    release = ScoreHistogram(MEMBERS, ScoreBins(), references().plan.digest())
    cohort = patients(40, 5)
    before = release.contribution(references().scores(Truth(), cohort))
    assert before.sum() == 40
    for extra in extremes():
        for others in (cohort, cohort.rows(np.arange(7))):
            with_him = release.contribution(references().scores(Truth(), joined(others, extra)))
            without = release.contribution(references().scores(Truth(), others))
            assert np.abs(with_him - without).sum() <= release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE)


def test_a_score_has_the_same_bits_in_any_company() -> None:
    """Else a patient at the edge of a bin changes it for somebody else's sake."""
    from tests.audits.cohorts import Truth, patients, references

    cohort = patients(130, 5)
    everybody = references().scores(Truth(), cohort)
    for count in (1, 2, 3, 7, 16, 33, 64, 65, 100, 127):
        alone = references().scores(Truth(), cohort.rows(np.arange(count)))
        assert np.array_equal(alone, everybody[:count])
