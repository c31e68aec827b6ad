"""What became of the sources' claims? Tried once a run, whoever is judged; the result file says what was found."""

import pytest

from mmrec.conformance.experiments import all_experiments


@pytest.mark.experiment
def test_a_claim_is_tried(experiment, session, record_finding):
    record_finding(all_experiments()[experiment].run(session.config.option.mmrec_profile))
