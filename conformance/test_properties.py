"""Do the relations hold that every correct implementation obeys, whatever its values?

Each op's row lists its properties; each is one test here, under the property's own clause.
"""

import pytest


@pytest.mark.conformance("property")
def test_property(examination):
    examination.demand(examination.part.clause)

    def examine(case):
        yield from examination.part.holds(examination.trial, case)

    examples = (
        examination.effort.properties if examination.dtype == "float32" else 1 + examination.effort.properties // 4
    )
    examination.explore(examine, examples, examination.part.regimes)
    examination.conclude()
