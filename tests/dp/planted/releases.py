"""Bugs in single statistics: a bound that is none."""

from tests.dp.planted import Mutant, bug

BUGS: tuple[Mutant, ...] = (
    bug(
        "concordance without its divisor",
        "models/concordance.py",
        "noise:no_neighbour_moves_a_concordance",
        "one patient is in n pairs, and n is secret",
        (
            "np.array([signed / (2 * (n - 1)), comparable / (n - 1)])",
            "np.array([signed / 2, float(comparable)])",
        ),
    ),
    bug(
        "marginals charged like one table",
        "dp/releases/marginals.py",
        "noise:no_neighbour_moves_marginals",
        "136 tables have sensitivity √136",
        ("return cell_sensitivity(neighbours, len(self.sets))", "return cell_sensitivity(neighbours)"),
    ),
    bug(
        "a histogram of rows instead of patients",
        "dp/releases/histogram.py",
        "noise:no_neighbour_moves_a_histogram",
        "who came often counts often",
        (
            "values = data.of_width(self.kind, 1).firsts(np.isfinite(data.values[:, 0]))[:, 0]",
            "values = data.values[np.isfinite(data.values[:, 0]), 0]",
        ),
    ),
    bug(
        "a sum clips rows instead of patients",
        "dp/releases/sums.py",
        "noise:no_neighbour_moves_a_bounded_sum",
        "three rows, three times C",
        (
            "data.of_width(self.kind, self.length).sums(), self.bound",
            "data.of_width(self.kind, self.length).values, self.bound",
        ),
    ),
    bug(
        "Breslow sums without a clip",
        "models/recalibration.py",
        "noise:no_neighbour_moves_breslow_sums",
        "who lives long under a large risk has no bound",
        (
            "return clipped_rows(rows(self.model, data.bounded(self.preset.horizon), bound), bound)",
            "return np.asarray(rows(self.model, data.bounded(self.preset.horizon), 1e9).sum(axis=0))",
        ),
    ),
    bug(
        "a log-likelihood without a clip",
        "models/likelihood.py",
        "noise:no_neighbour_moves_a_likelihood",
        "the patient whom the model did not expect",
        (
            "return clipped_rows(rows, SENSITIVITY)",
            "return np.stack([terms, np.full(len(terms), COUNT_WEIGHT)], axis=1).sum(axis=0)",
        ),
    ),
    bug(
        "numbers at risk instead of counts",
        "models/kaplan_meier.py",
        "noise:no_neighbour_moves_a_survival_curve",
        "one patient is in up to K of them: √K",
        (
            "return cell_counts(follow_up_cells(kept, np.asarray(self.grid[1:])), self.length)",
            "return np.cumsum(cell_counts(follow_up_cells(kept, np.asarray(self.grid[1:])), self.length))",
        ),
    ),
    bug(
        "a replaced patient of a mixture moves it like an added one",
        "dp/releases/mixture.py",
        "noise:no_neighbour_moves_mixture_statistics",
        "√6, not √3",
        ("return norm(3 if neighbours is Neighbours.ADD_OR_REMOVE_ONE else 6)", "return norm(3)"),
    ),
    bug(
        "half of the declared bound of concordance",
        "models/concordance.py",
        "noise:every_release_pays_at_its_sensitivity",
        "charged for 1, moves by 1.118",
        ("SENSITIVITY: Final = norm(1.25)", "SENSITIVITY: Final = 1.0"),
    ),
)
