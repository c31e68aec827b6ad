"""Device functions that several kernels share.

Precision   each works in the dtype it is given and is accurate to a few ulp in float32 and float64; tl.erf
            and tl.exp exist compiled and interpreted, libdevice functions exist compiled only. A module
            constant stands to the right of the tensor in a product: the interpreter makes constant * tensor a
            constant.
"""

import triton.language as tl

from ._launch import COMPILED, INTERPRETED, device_function

SQRT_HALF = tl.constexpr(0.7071067811865476)
INVERSE_SQRT_2_PI = tl.constexpr(0.3989422804014327)
GELU_LINEAR = tl.constexpr(1.5957691216057308)  # 2 sqrt(2 / pi)
GELU_CUBIC = tl.constexpr(0.07135481627260025)  # 0.044715 of it
LOWEST_DECAY = tl.constexpr(1e-6)
HIGHEST_DECAY = tl.constexpr(1.0 - 1e-6)
LOG2_E = tl.constexpr(1.4426950408889634)

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
def same_bits(x, y):
    """Of two float32 numbers: equal, and of one sign where they are 0; or both no numbers."""
    return (x.to(tl.int32, bitcast=True) == y.to(tl.int32, bitcast=True)) | ((x != x) & (y != y))


@device_function
def sigmoid(x):
    # exp(-abs(x)) cannot overflow, and e / (1 + e) keeps the relative accuracy of the negative tail.
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@device_function
def gelu_share(x, FORM: tl.constexpr):
    """gelu(x) / x."""
    if FORM == "tanh":
        # (1 + tanh(y / 2)) / 2 is the sigmoid of y: one exponential, one division, and no cancellation where x < 0. Where
        # the exponential overflows, the share is 0.
        return 1.0 / (1.0 + tl.exp(x * (x * x * -GELU_CUBIC - GELU_LINEAR)))
    else:
        return 0.5 * (1.0 + tl.erf(x * SQRT_HALF))


@device_function
def gelu(x, FORM: tl.constexpr):
    return x * gelu_share(x, FORM)


@device_function
def gelu_derivative(x, FORM: tl.constexpr):
    share = gelu_share(x, FORM)
    if FORM == "tanh":
        slope = share * (1.0 - share) * (x * x * (3.0 * GELU_CUBIC) + GELU_LINEAR)
    else:
        slope = tl.exp(-0.5 * x * x) * INVERSE_SQRT_2_PI
    return share + x * slope


@device_function
def clip(x, low, high):
    # Not tl.clamp: a NaN must stay NaN.
    return tl.where(x < low, low, tl.where(x > high, high, x))


@device_function
def power_of_two(x):
    if COMPILED and x.dtype == tl.float32:
        # tl.exp2 is the same instruction and three more, which make subnormal results: here 0 comes of them.
        return tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], tl.float32, is_pure=True, pack=1)
    return tl.exp2(x)


@device_function
def reciprocal(x):
    if COMPILED and x.dtype == tl.float32:
        # A division is the same instruction and five more, for divisors above 2^126: here 0 comes of them.
        return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], tl.float32, is_pure=True, pack=1)
    return 1.0 / x


@device_function
def odds_against(logit, bias):
    """(1 - s) / s of the sigmoid s of a logit and its bias; where it overflows, no decay is left above the clip.

    Both are scaled before they are added, which is one instruction; the bias rounds once more, as a sum in any order may.
    """
    return power_of_two(logit * -LOG2_E + bias * -LOG2_E)


@device_function
def exactly(VALUE: tl.constexpr, x):
    """A constant in the dtype of x. Triton 3.6 rounds one to float32 where it is compared, and not where it is chosen: in
    float64 a clipped number would not be equal to its bound."""
    return tl.full((), VALUE, x.dtype)


@device_function
def decay(base_odds, context_odds):
    """The product of two sigmoids, clipped (GAMMA-5, GAMMA-6), of the odds against each: one division for both."""
    gamma = reciprocal((1.0 + base_odds) * (1.0 + context_odds))
    lowest, highest = exactly(LOWEST_DECAY, gamma), exactly(HIGHEST_DECAY, gamma)
    gamma = tl.where(gamma > highest, highest, gamma)  # one instruction, as the next; `clip` is three
    return tl.where(gamma < lowest, lowest, gamma)


@device_function
def decay_slopes(gamma, base_odds, context_odds):
    """The derivatives of a decay for its two logits (ADJ-7), from it and from the odds against their sigmoids."""
    # gamma (1 - sigmoid): that is the sigmoid's odds times itself, and it is gamma times one over the other one.
    square = gamma * gamma
    base = square * (base_odds * context_odds + base_odds)
    context = square * (context_odds * base_odds + context_odds)
    return base, context


@device_function
def unless_clipped(gamma, gradient):
    """The gradient of a logit; none passes a decay where the clip binds (ADJ-8)."""
    lowest, highest = exactly(LOWEST_DECAY, gamma), exactly(HIGHEST_DECAY, gamma)
    return tl.where((gamma <= lowest) | (gamma >= highest), 0.0, gradient)
