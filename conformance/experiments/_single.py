"""Float32 as one more number system of the reference: the spec's own text, evaluated in single precision."""

import numpy as np


class Single(np.ndarray):
    """A float32 array whose written constants are float32 too, so that nothing is promoted to float64."""

    def constant(self, decimal: str) -> np.float32:
        return np.float32(decimal)


def single(values: np.ndarray) -> Single:
    return np.asarray(values, np.float32).view(Single)
