"""Bugs in the noise: who adds it, how much, and on which lattice."""

from tests.dp.planted import Mutant, bug

NOISE_DRAW = "exact + noise_shares.draw(keystream, query.length) if"

SILENT = (
    "from dp.noise_shares import encode\n        coordinates = lattice.encode(values, query, stream)\n"
    "        coordinates = encode(values, query, lattice.lattice) if self._client._me == 1 else coordinates"
)

BUGS: tuple[Mutant, ...] = (
    bug(
        "half the noise",
        "nodes/grids.py",
        "path:the_wide_lattice_adds_the_noise_it_charges",
        "ε is more than twice what the ledger says",
        (NOISE_DRAW, "exact + noise_shares.draw(keystream, query.length) // 2 if"),
    ),
    bug(
        "shares divided by n instead of √n",
        "nodes/grids.py",
        "path:the_wide_lattice_adds_the_noise_it_charges",
        "the classical mistake of distributed noise: too little by √h",
        (NOISE_DRAW, "exact + noise_shares.draw(keystream, query.length) // math.isqrt(self.lattice.honest) if"),
    ),
    bug(
        "half the noise in narrow lanes",
        "nodes/grids.py",
        "path:narrow_lanes_add_the_noise_they_charge",
        "the same, in the lanes that have little noise anyway",
        ("table(self.quantiser.share_std**2).add(", "table((self.quantiser.share_std // 2) ** 2).add("),
    ),
    bug(
        "local noise is one share of it",
        "nodes/grids.py",
        "path:local_noise_is_each_sites_own",
        "each site counts on the others, who may collude",
        (
            "return _Wide(noise_shares.local_lattice(query, roster_size))",
            "return _Wide(noise_shares.lattice(query, roster_size, honest=roster_size))",
        ),
    ),
    bug(
        "one site adds no share",
        "nodes/door.py",
        "path:the_wide_lattice_adds_the_noise_it_charges",
        "ε = 3 becomes 3.28; canaries alone do not see it",
        (
            "coordinates = lattice.encode(values, query, stream)",
            SILENT,
        ),
    ),
    bug(
        "every site draws from the same stream",
        "nodes/door.py",
        "path:every_site_and_every_round_draws_its_own_noise",
        "a colluding site knows the noise of all others",
        ("hedged_key(self._entropy(32), self._noise_secret, purpose)", "hedged_key(bytes(32), bytes(32), purpose)"),
    ),
    bug(
        "the same noise in every step",
        "nodes/door.py",
        "path:every_site_and_every_round_draws_its_own_noise",
        "the difference of two sums has no noise",
        (
            "hedged_key(self._entropy(32), self._noise_secret, purpose)",
            'hedged_key(bytes(32), self._noise_secret, b"")',
        ),
    ),
    bug(
        "noise that a cloned generator repeats for the next round",
        "nodes/door.py",
        "way_out:noise_and_sample_are_drawn_anew_for_every_upload_of_every_site",
        "a virtual machine that is resumed twice gives two sums with one noise",
        ("stream = self._stream(context.digest)", "stream = self._stream(query.digest())"),
    ),
    bug(
        "a share is one draw spread over all digits",
        "dp/discrete_gaussian.py",
        "noise:a_share_is_a_discrete_gaussian_down_to_its_last_digit",
        "2,049 values where there should be 2³¹: the low digits say what was summed",
        ("digit[:] = level", "digit[:] = draws[0]"),
    ),
    bug(
        "the finest digit of the noise is left out",
        "dp/discrete_gaussian.py",
        "noise:a_share_is_a_discrete_gaussian_down_to_its_last_digit",
        "sums modulo 32 are exact",
        ("for level in draws[-2::-1]:", "for level in [*draws[-2:0:-1], 0 * draws[0]]:"),
    ),
    bug(
        "|R| shares counted instead of |R| - c",
        "secagg/manifest.py",
        "noise:the_shares_nobody_can_do_without_make_the_whole_noise",
        "colluders take their shares away, and too little is left",
        ("(roster if self.mode is Mode.A else self.threshold) - self.collusion", "roster"),
    ),
    bug(
        "mode B counts the roster instead of the survivors it needs",
        "secagg/manifest.py",
        "noise:the_shares_nobody_can_do_without_make_the_whole_noise",
        "a coordinator lets all but t drop out",
        ("(roster if self.mode is Mode.A else self.threshold)", "roster"),
    ),
    bug(
        "local noise counts on everybody",
        "dp/noise_shares.py",
        "noise:the_shares_nobody_can_do_without_make_the_whole_noise",
        "a site's own noise is too small by √n",
        ("return _with_noise(query, roster_size, 1)", "return _with_noise(query, roster_size, roster_size)"),
    ),
    bug(
        "rounding accounted as √d/2",
        "dp/noise_shares.py",
        "noise:neighbours_on_the_lattice_move_within_what_the_noise_covers",
        "two sums that differ by t round to numbers that differ by t + 1",
        ("steps = (noise / multiplier - root)", "steps = (noise / multiplier - root / 2)"),
    ),
    bug(
        "no clamp at the public cap",
        "dp/noise_shares.py",
        "noise:a_hospital_above_its_cap_is_clamped",
        "a large hospital's sum wraps, which says that it is large",
        ("np.clip(scaled, -clamp, clamp, out=scaled)", "pass"),
    ),
    bug(
        "narrow lanes charged at the full roster's noise",
        "nodes/grids.py",
        "noise:narrow_lanes_charge_for_the_least_noise_any_roster_gives",
        "the cost rises when the noise in steps falls",
        ("    least = manifest.minimum_roster\n", "    least = len(manifest.members)\n"),
    ),
    bug(
        "narrow lanes round down instead of by chance",
        "secagg/quantize.py",
        "noise:rounding_in_narrow_lanes_is_by_chance_and_unbiased",
        "the theorem is about secret rounding; without it a step may hide or show a patient",
        ("np.bitwise_and(u, _RANDOM, out=u)", "np.bitwise_and(u, 0, out=u)"),
    ),
    bug(
        "float64 sums taken for exact",
        "dp/noise_shares.py",
        "noise:a_sum_of_all_sites_has_a_bound_and_whatever_passes_it_is_refused",
        "the bound on rounding is charged with the wrong sign",
        ("return 1 + Fraction(cap * (cap + 2 * root), 2**52)", "return 1 - Fraction(cap * (cap + 2 * root), 2**52)"),
    ),
    bug(
        "the noise of all sites is not in the bound of a sum",
        "dp/noise_shares.py",
        "noise:a_sum_of_all_sites_has_a_bound_and_whatever_passes_it_is_refused",
        "a rare sum wraps, or an honest one is refused",
        ("total = roster_size * (clamp + SHARE_BOUND)", "total = roster_size * clamp"),
    ),
    bug(
        "sums outside their bound are applied",
        "dp/noise_shares.py",
        "noise:a_sum_of_all_sites_has_a_bound_and_whatever_passes_it_is_refused",
        "beyond 2⁴⁷ the tag proves nothing",
        ("total.min() < -lattice.total_bound or total.max()", "total.min() < -lattice.total_bound and total.max()"),
    ),
    bug(
        "a realised multiplier that leaves out the rounding",
        "dp/noise_shares.py",
        "noise:a_sum_of_all_sites_has_a_bound_and_whatever_passes_it_is_refused",
        "reports claim more noise than there is",
        ("self.steps * _inflation(query) + Fraction(root, 1 << _ROOT_BITS)", "Fraction(self.steps)"),
    ),
)
