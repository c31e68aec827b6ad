"""Device functions that several kernels share.

Precision   each works in the dtype it is given and is accurate to a few ulp in float32 and float64; tl.erf
            and tl.exp exist compiled and interpreted, libdevice functions exist compiled only. A module
            constant stands to the right of the tensor in a product: the interpreter makes constant * tensor a
            constant.
"""

import triton.language as tl

from ._launch import INTERPRETED, device_function

SQRT_HALF = tl.constexpr(0.7071067811865476)
SQRT_2_OVER_PI = tl.constexpr(0.7978845608028654)
INVERSE_SQRT_2_PI = tl.constexpr(0.3989422804014327)
GELU_CUBIC = tl.constexpr(0.044715)
LOWEST_DECAY = tl.constexpr(1e-6)
HIGHEST_DECAY = tl.constexpr(1.0 - 1e-6)

if INTERPRETED:  # it takes milliseconds to enter a function of Triton's that is written in Triton: here is what they do

    def reduce_sum(x, axis):
        return tl.reduce(x, axis, tl.standard._sum_combine)

    def reduce_max(x, axis):
        return tl.reduce(x, axis, tl.standard._elementwise_max)

    def cdiv(x, y):
        return (x + (y - 1)) // y

else:
    reduce_sum, reduce_max, cdiv = tl.sum, tl.max, tl.cdiv


@device_function
def sigmoid(x):
    # exp(-abs(x)) cannot overflow, and e / (1 + e) keeps the relative accuracy of the negative tail.
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@device_function
def tanh(x):
    # Below 1/2 the Pade approximant [7/6], within 3e-16 relative there. Above, 1 - 2 / (e^(2 abs(x)) + 1)
    # cancels little: at most about 4 u measured over both, in float64 and in float32.
    square = x * x
    numerator = x * (135135 + square * (17325 + square * (378 + square)))
    denominator = 135135 + square * (62370 + square * (3150 + square * 28))
    magnitude = tl.abs(x)
    far = 1.0 - 2.0 / (tl.exp(2.0 * magnitude) + 1.0)
    return tl.where(magnitude < 0.5, numerator / denominator, tl.where(x < 0, -far, far))


@device_function
def gelu(x, FORM: tl.constexpr):
    if FORM == "tanh":
        return 0.5 * x * (1.0 + tanh((x + x * x * x * GELU_CUBIC) * SQRT_2_OVER_PI))
    else:
        return 0.5 * x * (1.0 + tl.erf(x * SQRT_HALF))


@device_function
def gelu_derivative(x, FORM: tl.constexpr):
    if FORM == "tanh":
        ratio = tanh((x + x * x * x * GELU_CUBIC) * SQRT_2_OVER_PI)
        slope = 0.5 * (1.0 - ratio * ratio) * (1.0 + 3.0 * x * x * GELU_CUBIC) * SQRT_2_OVER_PI
    else:
        ratio = tl.erf(x * SQRT_HALF)
        slope = tl.exp(-0.5 * x * x) * INVERSE_SQRT_2_PI
    return 0.5 * (1.0 + ratio) + x * slope


@device_function
def clip(x, LOW: tl.constexpr, HIGH: tl.constexpr):
    # Not tl.clamp: a NaN must stay NaN.
    return tl.where(x < LOW, LOW, tl.where(x > HIGH, HIGH, x))


@device_function
def decay(base, context):
    """The decay of the sigmoids of two logits (GAMMA-5, GAMMA-6)."""
    return clip(base * context, LOWEST_DECAY, HIGHEST_DECAY)


@device_function
def logit_gradients(grad, base, context):
    """The gradients of two logits, from that of their decay and from their sigmoids (ADJ-7, ADJ-8)."""
    gamma = base * context
    free = (gamma >= LOWEST_DECAY) & (gamma <= HIGHEST_DECAY)
    slope = tl.where(free, grad * gamma, 0.0)
    return slope * (1.0 - base), slope * (1.0 - context)
