"""Bugs in clipped sums, the sampler and the update: what one patient can do to a sum."""

from tests.dp.planted import Mutant, bug

AS_LARGE = (
    "self.block, self._grids = 64 * (1 + len(tensors[0]) // 64), None\n        return Table(self, tensors, chosen)"
)

BUGS: tuple[Mutant, ...] = (
    bug(
        "clipped to 2C",
        "dp/grids.py",
        "kernel:no_patient_is_longer_than_the_clip_norm",
        "ε more than doubles",
        ("np.minimum(CLIP_TARGET * clip / norm, 1.0)", "np.minimum(2 * CLIP_TARGET * clip / norm, 1.0)"),
    ),
    bug(
        "the norm of one layer only",
        "dp/grids.py",
        "kernel:no_patient_is_longer_than_the_clip_norm",
        "each layer may be as long as the whole gradient should be",
        (
            "norm = np.sqrt(sum(layer.take(term, fixed) for layer, term in zip(layers, terms, strict=True)))",
            "norm = np.sqrt([layer.take(term, fixed) for layer, term in zip(layers, terms, strict=True)][-1])",
        ),
    ),
    bug(
        "the bias is left out of the norm",
        "dp/grids.py",
        "kernel:no_patient_is_longer_than_the_clip_norm",
        "the part that every patient has is not clipped",
        ("                self._squares += _GRID * _GRID\n", "                pass\n"),
    ),
    bug(
        "rounded to nearest without a look at the length",
        "dp/grids.py",
        "kernel:no_patient_is_longer_than_the_clip_norm",
        "a record with large values is lengthened beyond C",
        ("        if len(long):\n", "        if False:\n"),
    ),
    bug(
        "a sum that float64 cannot hold exactly",
        "dp/grids.py",
        "kernel:a_block_of_the_longest_patients_adds_up_exactly",
        "taking a patient away changes the rounding of all others",
        ("EXACT_ROWS: Final = 1 << (53 - UNIT_BITS)", "EXACT_ROWS: Final = 4096"),
    ),
    bug(
        "inputs are not rounded to their grid",
        "dp/arithmetic.py",
        "kernel:the_sum_is_the_sum_of_its_patients",
        "products are no whole numbers, and sums of them round",
        ("values.shape[1]], np.rint(narrow, out=narrow))", "values.shape[1]], narrow)"),
    ),
    bug(
        "the carry counts twice",
        "dp/bookkeeping.py",
        "kernel:the_sum_is_the_sum_of_its_patients",
        "a sum that depends on how blocks fall",
        ("                low &= (1 << _SPLIT) - 1\n", ""),
    ),
    bug(
        "rows that fill a block count as patients",
        "dp/bookkeeping.py",
        "kernel:the_sum_is_the_sum_of_its_patients",
        "512 - n of them: the number of patients is in the sum",
        ("last = min(block.patients, self.block)", "last = self.block"),
    ),
    bug(
        "no guard against NaN",
        "dp/grids.py",
        "kernel:a_record_out_of_this_world_contributes_exactly_zero",
        "one record makes the sum of a hospital a signal",
        ("broken = ~(norm <= _BROKEN * clip)", "broken = norm > _BROKEN * clip"),
    ),
    bug(
        "0 · NaN",
        "dp/grids.py",
        "kernel:a_record_out_of_this_world_contributes_exactly_zero",
        "the factor is zero, the product is not",
        (
            "            self._inputs[rows] = 0.0\n        self._deltas[rows] = 0.0\n",
            "        self._deltas[rows] *= 0.0\n",
        ),
    ),
    bug(
        "the test of rows is switched off, with a Cox loss",
        "dp/bookkeeping.py",
        "kernel:a_loss_is_refused_or_one_patient_moves_the_sum_by_at_most_the_clip_norm",
        "one record moves the gradients of all who are at risk with it: 48 C in a batch of 1,024",
        ("        while not self._rows_apart(kind):", "        while False:"),
    ),
    bug(
        "a block as large as the cohort",
        "dp/bookkeeping.py",
        "kernel:a_model_never_sees_how_many_patients_there_are",
        "a matrix library may add in another order when one more row is there",
        (
            "return Table(self, tensors, chosen)",
            AS_LARGE,
        ),
    ),
    bug(
        "divided by the number of patients",
        "dp/optimizer.py",
        "kernel:the_update_does_not_know_the_number_of_patients",
        "one released gradient says whether n is 64 or 65 (Opacus issues 571 and 819)",
        ("p.grad.div_(self.normaliser)", "p.grad.div_(max(1, self._everybody.patients))"),
    ),
    bug(
        "rows are clipped to C without room for rounding",
        "dp/rows.py",
        "kernel:clipped_rows_hold_their_bound_exactly",
        "a bound that is almost one",
        ("CLIP_TARGET: Final = 1.0 - 2.0**-20", "CLIP_TARGET: Final = 1.0"),
    ),
    bug(
        "rows that are no numbers are multiplied by zero",
        "dp/rows.py",
        "kernel:clipped_rows_hold_their_bound_exactly",
        "0 · NaN again",
        ("        rows[~sound] = 0.0\n", "        rows[~sound] *= 0.0\n"),
    ),
    bug(
        "rows are added in float32",
        "dp/rows.py",
        "kernel:clipped_rows_hold_their_bound_exactly",
        "halves that cancel leave a rest that depends on who is there: 1.4e-2 C",
        (
            "total += rows.astype(np.int64).sum(axis=0)",
            "total += np.add.accumulate(rows, dtype=np.float32)[-1].astype(np.int64)",
        ),
    ),
    bug(
        "the sampling probability doubled",
        "dp/sampling.py",
        "kernel:a_patient_is_sampled_by_his_own_coin_and_never_too_often",
        "the accountant was told q",
        (
            "int(Fraction(self.probability) * 2**_COIN_BITS)",
            "min(2 * int(Fraction(self.probability) * 2**64), 2**64 - 1)",
        ),
    ),
    bug(
        "≤ instead of <",
        "dp/sampling.py",
        "kernel:a_patient_is_sampled_by_his_own_coin_and_never_too_often",
        "more than q, if only by 2⁻⁶⁴: an upper bound is one",
        ("coins < np.uint64(self.threshold)", "coins <= np.uint64(self.threshold)"),
    ),
    bug(
        "≥ instead of <",
        "dp/sampling.py",
        "kernel:a_patient_is_sampled_by_his_own_coin_and_never_too_often",
        "probability 1 - q",
        ("coins < np.uint64(self.threshold)", "coins >= np.uint64(self.threshold)"),
    ),
    bug(
        "coins compared as floats",
        "dp/sampling.py",
        "kernel:a_patient_is_sampled_by_his_own_coin_and_never_too_often",
        "53 bits of 64: coins above the threshold round to it",
        ("coins < np.uint64(self.threshold)", "coins * 2.0**-64 <= self.probability"),
    ),
    bug(
        "a batch of a fixed size",
        "dp/sampling.py",
        "kernel:a_patient_is_sampled_by_his_own_coin_and_never_too_often",
        "accounted as Poisson: ε = 1 is 3.5",
        (
            "np.flatnonzero(coins < np.uint64(self.threshold)).astype(np.int64)",
            "np.sort(np.argsort(coins)[: round(self.probability * patients)]).astype(np.int64)",
        ),
    ),
    bug(
        "a round that is done again keeps its sample",
        "dp/optimizer.py",
        "kernel:an_upload_that_is_done_again_draws_again",
        "two uploads of one sample: its noise is halved, and the accountant counts two samples",
        (
            "chosen = self._sampler.draw(self._everybody.patients)",
            'chosen = self.__dict__.setdefault("_kept", self._sampler.draw(self._everybody.patients))',
        ),
    ),
    bug(
        "the sample is drawn from the query, not from the round",
        "nodes/door.py",
        "way_out:noise_and_sample_are_drawn_anew_for_every_upload_of_every_site",
        "the same, if the generator of the operating system stands still",
        ('_purpose("haemfed/sampling/v1", context.digest)', '_purpose("haemfed/sampling/v1", query.digest())'),
    ),
    bug(
        "a sampler that nobody is charged for",
        "dp/optimizer.py",
        "kernel:training_refuses_a_sampler_that_is_not_charged_for",
        "drawn with q = 0.5, charged for 0.1",
        ("if query.sampling_probability != self._sampler.probability:", "if False:"),
    ),
    bug(
        "a sum in twice its unit",
        "dp/bookkeeping.py",
        "kernel:a_sum_is_in_the_unit_of_the_gradient",
        "clipped to C, and then doubled",
        ("* (self.clip * 2.0**-UNIT_BITS)", "* (self.clip * 2.0 ** (1 - UNIT_BITS))"),
    ),
    bug(
        "formed rows are rounded without a look at the length",
        "dp/grids.py",
        "kernel:patients_of_layers_that_form_rows_are_bounded_too",
        "the same for the layers that have no outer product",
        (
            "return self._arithmetic.scale(term.values.numpy(), factor * _GRID, self._rows)",
            "return 0.0 * self._arithmetic.scale(term.values.numpy(), factor * _GRID, self._rows)",
        ),
    ),
    bug(
        "rows are tested in their places alone",
        "dp/bookkeeping.py",
        "kernel:a_loss_is_refused_or_one_patient_moves_the_sum_by_at_most_the_clip_norm",
        "who stands in front of the others moves them",
        ("np.array_equal(old[order], new) and ", ""),
    ),
    bug(
        "rows are tested under permutations alone",
        "dp/bookkeeping.py",
        "kernel:a_loss_is_refused_or_one_patient_moves_the_sum_by_at_most_the_clip_norm",
        "a largest value is the same in every order",
        (" and np.array_equal(old[kept], other[kept])", ""),
    ),
)
