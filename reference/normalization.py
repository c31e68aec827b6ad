"""Root-mean-square and layer normalization of the last axis, with their adjoints (spec/recurrence.md)."""

from mmrec.reference.numbers import Numbers, constant, mean, rsqrt

NORMS = ("rms", "layer", "none")


def normalize(norm: str, x: Numbers, weight: Numbers, bias: Numbers, eps: float) -> Numbers:
    """The norm of that name over the last axis: x [...,D], weight and bias [D]."""
    if norm == "rms":
        return x * inverse_deviation(x, eps) * weight  # REC-14
    if norm == "layer":
        centred = x - mean(x)
        return centred * inverse_deviation(centred, eps) * weight + bias  # REC-14
    if norm == "none":
        return x  # REC-14
    raise ValueError(f"norm: {norm!r} is not one of {', '.join(NORMS)}")


def normalize_adjoint(
    norm: str, x: Numbers, weight: Numbers, bias: Numbers, eps: float, g: Numbers
) -> tuple[Numbers, Numbers, Numbers]:
    """Gradients for x [...,D] and, not yet summed over rows, for weight and bias [...,D]."""
    if norm == "none":
        return g, g * 0, g * 0
    centred = x - mean(x) if norm == "layer" else x
    scale = inverse_deviation(centred, eps)
    direction = centred * scale
    pull = g * weight
    grad = pull - direction * mean(pull * direction)
    if norm == "layer":
        return (grad - mean(pull)) * scale, g * direction, g
    return grad * scale, g * direction, g * 0


def inverse_deviation(x: Numbers, eps: float) -> Numbers:
    """1 / sqrt(mean of squares + eps)."""
    return rsqrt(mean(x * x) + constant(repr(eps), x))
