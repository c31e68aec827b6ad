"""What must an op move and multiply, whoever computes it, and how long does that take at the device's own rates?

The numbers follow from the op's row alone (its arguments and their shapes), so they are written down nowhere:

    forward   read every argument, write the result
    backward  read every argument and g, write the gradient of every argument
    products  every weight matrix meets every step once forward, and twice backward (for its input and for itself)
    the rest  every number of a sequence takes part in one operation forward, and in two more backward

For N numbers in [B,T,D], that is 2N forward and 3N backward for a decay product, 3N and 5N for a linear recurrence.
A backward that reads the saved result instead of recomputing it moves N more; nobody has to. What is no matrix
product never decides a roof; it places a scan in the picture of operations per byte.

A product counts once, at the rate of the case's dtype. In a 16-bit dtype that is what a product of two stored operands
takes. Where one is computed, and therefore float32 (the gate's hidden layer, a recurrence's state, gradients of either),
16-bit units need two or three passes and other units are slower; how many depends on who does it and on how long
the sum is, so the roof counts the one that nobody can do without.
"""

from dataclasses import dataclass
from math import prod

from mmrec.benchmarks.cases import Case, is_weight
from mmrec.benchmarks.device import Device

ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
BEYOND_CACHE = 2  # a call that moves this many caches full cannot have found them there


@dataclass(frozen=True)
class Roof:
    """The least time one call can take."""

    bytes: int
    operations: int
    copy_seconds: float  # to move the bytes at the device's copy rate
    product_seconds: float  # to do the operations at the rate of a matrix product in the case's dtype
    beyond_cache: bool

    @property
    def seconds(self) -> float:
        return max(self.copy_seconds, self.product_seconds)

    @property
    def bound_by(self) -> str:
        return "copy" if self.copy_seconds >= self.product_seconds else "product"


def bytes_moved(case: Case) -> int:
    """Bytes that one call must read and write."""
    arguments = sum(prod(case.lengths.shape(letters)) for letters in case.row.arguments.values())
    sequence = prod(case.lengths.shape("BTD"))
    forward, backward = arguments + sequence, 2 * arguments + sequence
    return ITEM_BYTES[case.dtype] * (forward if case.direction == "forward" else forward + backward)


def operations(case: Case) -> int:
    """Multiplications and additions of one call: those of its matrix products, and one for every number of a sequence."""
    arguments = case.row.arguments.values()
    weights = [letters for letters in arguments if is_weight(letters)]
    products = sum(2 * prod(case.lengths.shape("BT")) * prod(case.lengths.shape(letters)) for letters in weights)
    elementwise = sum(prod(case.lengths.shape(letters)) for letters in arguments if letters == "BTD")
    forward = products + elementwise
    return forward if case.direction == "forward" else 3 * forward


def roof(case: Case, device: Device) -> Roof:
    moved, done = bytes_moved(case), operations(case)
    return Roof(moved, done, moved / device.copy_rate, done / device.product_rates[case.dtype],
                moved > BEYOND_CACHE * device.cache_bytes)  # fmt: skip
