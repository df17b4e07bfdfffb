"""Against whom a study protects, and how well."""

from __future__ import annotations

import pytest

from dp.queries import Account
from nodes.guarantees import coalitions_of, epsilon_views_of
from nodes.protocol import Terms
from secagg.manifest import Mode, Noise
from tests.nodes.studies import make


def test_every_coalition_faces_the_shares_of_the_others_for_the_roster_that_is_worst() -> None:
    """Five hospitals, c = 1, rosters of four and five: four shares count of five, three of four."""
    study, _ = make(Terms(holdout_epsilon=1.5))
    seen = coalitions_of(study)

    assert [(each.fewest, each.most) for each in seen] == [(k, k) for k in range(5)]
    assert [each.noise for each in seen] == pytest.approx([5 / 4, 1, 2 / 3, 1 / 3, 1 / 4])
    assert [each.main for each in seen] == [False, True, False, False, False]
    assert (seen[1].training, seen[1].holdout) == (study.epsilon(Account.TRAINING), study.epsilon(Account.HOLDOUT))
    outside, _, everyone = epsilon_views_of(study, Account.TRAINING)
    assert (seen[0].training, seen[-1].training) == pytest.approx((outside.epsilon_5, everyone.epsilon_5), rel=1e-9)
    for of in ([each.training for each in seen], [each.holdout for each in seen]):
        assert of == sorted(of, key=lambda epsilon: epsilon or 0.0)


def test_in_mode_b_more_than_c_leave_a_hospital_its_own_share() -> None:
    """t = 4 of five."""
    study, _ = make(Terms(mode=Mode.B))
    seen = coalitions_of(study)

    assert [(each.fewest, each.most) for each in seen] == [(0, 0), (1, 1), (2, 4)]
    assert [each.noise for each in seen] == pytest.approx([4 / 3, 1, 1 / 3])
    assert seen[1].training == study.epsilon(Account.TRAINING)
    assert seen[2].training == pytest.approx(epsilon_views_of(study, Account.TRAINING)[2].epsilon_5, rel=1e-9)


@pytest.mark.parametrize("noise", [Noise.LOCAL, Noise.NONE])
def test_there_is_nothing_to_take_off_where_no_noise_is_shared(noise: Noise) -> None:
    assert coalitions_of(make(Terms(noise=noise))[0]) == ()
