"""Bugs in the accounting: a release that costs less than it gives away."""

from tests.dp.planted import Mutant, bug

BUGS: tuple[Mutant, ...] = (
    bug(
        "costs are rounded down",
        "dp/budget.py",
        "budget:a_cost_is_never_below_what_the_release_gives_away",
        "many small releases for nothing",
        ("units: int = math.ceil(cost * 2**UNIT_BITS)", "units: int = math.floor(cost * 2**UNIT_BITS)"),
    ),
    bug(
        "a limit is compared as a float",
        "dp/limits.py",
        "budget:a_budget_ends_at_its_last_unit",
        "the last 2¹¹ units are free",
        ("if total > (most := _largest(", "if float(total) > float(most := _largest("),
    ),
    bug(
        "the order of an RDP budget is chosen after the fact",
        "dp/budget.py",
        "budget:the_headline_is_never_below_the_truth",
        "a filter holds at the order that was declared",
        (
            "return rdp.epsilon(self.order, cost, gaussian_delta(delta))",
            "return min(rdp.epsilon(a, cost * a / self.order, gaussian_delta(delta)) for a in range(2, 257))",
        ),
    ),
    bug(
        "a Poisson sample in a GDP budget, at q²/z²",
        "dp/budget.py",
        "budget:a_cost_is_never_below_what_the_release_gives_away",
        "no useful μ bounds a sampled step; Opacus' GDP accountant is below the truth for this reason",
        (
            "if rule.kind is BudgetKind.GDP and not isinstance(event, GaussianEvent):",
            "if rule.kind is BudgetKind.GDP and isinstance(event, NarrowEvent):",
        ),
        (
            "cost = Fraction(rdp.poisson_gaussian(rule.order, event.multiplier, event.sampling_probability))",
            "cost = (Fraction(event.sampling_probability) / Fraction(event.multiplier)) ** 2",
        ),
    ),
    bug(
        "a Poisson sample amplifies twice",
        "dp/rdp.py",
        "budget:a_cost_is_never_below_what_the_release_gives_away",
        "a divergence that is none",
        ("exponent = (j * j - j) / 2 / multiplier**2", "exponent = (j * j - 2 * j + 1) / 2 / multiplier**2"),
    ),
    bug(
        "half of what a Gaussian costs under RDP",
        "dp/budget.py",
        "budget:a_cost_is_never_below_what_the_release_gives_away",
        "order / 2z², not order / 4z²",
        ("mu_squared * rule.order / 2", "mu_squared * rule.order / 4"),
    ),
    bug(
        "replace-one reported as add-or-remove-one",
        "dp/accountant.py",
        "budget:a_replaced_patient_costs_twice_the_mu",
        "a reader of the report compares ε that are not comparable",
        (
            "_other_neighbours(_releases(history), delta, filter, 2, poisson_replaces=True)",
            "_other_neighbours(_releases(history), delta, filter, 1, poisson_replaces=True)",
        ),
    ),
    bug(
        "a patient of two hospitals counted once",
        "dp/accountant.py",
        "budget:a_patient_of_k_hospitals_costs_k_times_the_mu",
        "his ε is more than twice what is printed",
        (
            "_other_neighbours(_releases(history), delta, filter, hospitals, poisson_replaces=False)",
            "_other_neighbours(_releases(history), delta, filter, 1, poisson_replaces=False)",
        ),
    ),
    bug(
        "δ = 1/n",
        "dp/budget.py",
        "budget:a_delta_that_would_publish_a_patient_is_refused",
        "one patient's record may be published",
        ("Fraction(delta) * patients >= 1:", "Fraction(delta) * patients > 1:"),
    ),
    bug(
        "coalitions of the whole roster in mode B",
        "dp/accountant.py",
        "budget:colluders_are_subtracted_from_the_shares_that_an_opened_sum_holds",
        "an opened sum may hold t shares",
        ("shares = max(1, honest + colluders - k)", "shares = max(1, roster_size - k)"),
    ),
)
