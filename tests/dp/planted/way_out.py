"""Bugs on the way out of a hospital: what is bound, in which order, and who has to agree."""

from tests.dp.planted import Mutant, bug

CHARGE = "        self._records.charge_and_store(query, context.digest, upload)\n"
SEND = "        self._session.send(upload)\n"

BUGS: tuple[Mutant, ...] = (
    bug(
        "sent before it is charged",
        "nodes/door.py",
        "way_out:the_debit_is_durable_before_anything_is_sent",
        "a crash in between is a release for nothing",
        (
            CHARGE + SEND,
            SEND + CHARGE,
        ),
    ),
    bug(
        "one round more than the stage has",
        "nodes/door.py",
        "way_out:a_stage_uploads_no_more_often_than_the_study_says",
        "a coordinator that aborts for ever",
        ("if round_number > self._end:", "if round_number > self._end + 1:"),
    ),
    bug(
        "a round is answered with other terms",
        "nodes/door.py",
        "way_out:a_round_is_answered_once",
        "two vectors under one number: their difference is not noised for",
        ("if stored[0] != context.digest:", "if False:"),
    ),
    bug(
        "a round is computed anew when it is asked again",
        "nodes/door.py",
        "way_out:a_round_is_answered_once",
        "the same sum with two noises, charged once",
        ("if (stored := self._records.stored_upload(step.round)) is not None:", "if (stored := None) is not None:"),
    ),
    bug(
        "a query that nobody signed",
        "nodes/study.py",
        "way_out:only_queries_that_were_signed_pass",
        "less noise than what the hospitals agreed on",
        ("if wanted == asked and 0 <= query.index < stage.steps:", "if 0 <= query.index < stage.steps:"),
    ),
    bug(
        "more steps than the study has",
        "nodes/study.py",
        "way_out:only_queries_that_were_signed_pass",
        "a longer training than what was agreed on",
        ("if wanted == asked and 0 <= query.index < stage.steps:", "if wanted == asked:"),
    ),
    bug(
        "aborted rounds are not reserved",
        "nodes/study.py",
        "way_out:a_study_is_calibrated_and_reserved_for_every_upload_it_may_make",
        "ε = 2 over 60 steps is 2.1 when six are done again",
        (
            "tuple((self.event(stage), stage.uploads) for stage in self.stages",
            "tuple((self.event(stage), stage.steps) for stage in self.stages",
        ),
    ),
    bug(
        "noise calibrated to the wanted sums alone",
        "nodes/calibrating.py",
        "way_out:a_study_is_calibrated_and_reserved_for_every_upload_it_may_make",
        "the same, from the other end",
        ("(shares[stage.kind], stage.uploads)", "(shares[stage.kind], stage.steps)"),
    ),
    bug(
        "the context leaves out the query",
        "secagg/context.py",
        "way_out:a_round_is_bound_to_all_that_gives_it_meaning",
        "a gradient is protected by the noise of other sites' counts",
        ("            terms.query,\n", ""),
    ),
    bug(
        "the context leaves out the noise",
        "secagg/context.py",
        "way_out:a_round_is_bound_to_all_that_gives_it_meaning",
        "sites with two ideas of the noise complete one sum",
        ("            terms.share_variance,\n", ""),
    ),
    bug(
        "the query leaves out its multiplier",
        "dp/queries.py",
        "way_out:two_different_questions_are_two_queries",
        "the same, one room lower",
        ("            float(self.multiplier).hex().encode(),\n", ""),
    ),
    bug(
        "the query leaves out the sampling probability",
        "dp/queries.py",
        "way_out:two_different_questions_are_two_queries",
        "one site samples, another does not",
        ("            float(self.sampling_probability).hex().encode(),\n", ""),
    ),
    bug(
        "the query does not say about which model it is",
        "models/training.py",
        "way_out:two_sites_whose_models_differ_ask_two_questions",
        "models part in silence, and the certificate is about one of them",
        ("query=lambda step: query(step).about(flat(model)),", "query=query,"),
    ),
)
