import math

import mpmath
import pytest

from audits import gaussian
from audits.errors import MisuseError
from dp import gdp


@pytest.mark.parametrize("mu", [0.01, 0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-6, 1e-9])
def test_epsilon_solves_the_defining_equation_in_forty_digits(mu: float, delta: float) -> None:
    epsilon = gaussian.epsilon_of(mu, delta)

    with mpmath.workdps(40):  # Balle & Wang 2018, theorem 8, as printed
        m, e = mpmath.mpf(mu), mpmath.mpf(epsilon)
        exact = mpmath.ncdf(-e / m + m / 2) - mpmath.exp(e) * mpmath.ncdf(-e / m - m / 2)
    assert exact <= delta
    assert float(exact) == pytest.approx(delta, rel=1e-6)


def test_it_agrees_with_the_accountant_of_dp_which_it_does_not_share_code_with() -> None:
    for mu in (0.05, 0.5, 2.0):
        assert gaussian.epsilon_of(mu, 1e-5) == pytest.approx(gdp.epsilon(mu, 1e-5), abs=1e-9)


@pytest.mark.parametrize(
    ("epsilon", "half", "tenth", "hundredth"),  # Bayes' rule with odds times e^ε
    [(0.5, 0.62, 0.16, 0.016), (1, 0.73, 0.23, 0.027), (2, 0.88, 0.45, 0.07), (4, 0.98, 0.86, 0.36)],
)
def test_beliefs(epsilon: float, half: float, tenth: float, hundredth: float) -> None:
    got = [gaussian.posterior(prior, epsilon) for prior in (0.5, 0.1, 0.01)]
    assert got == pytest.approx([half, tenth, hundredth], abs=0.006)


def test_no_attack_without_a_release() -> None:
    assert gaussian.epsilon_of(0.0, 1e-5) == 0.0
    assert (gaussian.auc_ceiling(0.0), gaussian.accuracy(0.0)) == (0.5, 0.5)
    assert gaussian.tpr_ceiling(0.0, 0.01) == pytest.approx(0.01)
    assert (gaussian.tpr_ceiling(1.0, 0.0), gaussian.tpr_ceiling(1.0, 1.0)) == (0.0, 1.0)


@pytest.mark.parametrize(("mu", "delta"), [(-1.0, 1e-5), (math.nan, 1e-5), (math.inf, 1e-5), (1.0, 0.0), (1.0, 1.0)])
def test_nonsense_is_refused(mu: float, delta: float) -> None:
    with pytest.raises(MisuseError):
        gaussian.epsilon_of(mu, delta)
