"""Many rows of a recurrence, or of its adjoint, by many steps in one launch, on tensor cores.

_cell and _stabilized_cell say what is stepped. _advance, _stabilized_advance and _stabilized_adjoint take the rows through
time (_product, _tiles, _sums), and choose for a batch between that and a walk of few rows; _rows says what all have in common.
"""
