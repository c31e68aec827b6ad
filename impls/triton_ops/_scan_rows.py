"""The rows of a scan's chunk: where they lie, that all are read before one is used, and what a row does to the state."""

import triton.language as tl

from ._device import clip, decay, decay_slopes, odds_against
from ._launch import COMPILED, device_function

LOWEST_LOG = tl.constexpr(-50.0)
FLOOR = tl.constexpr(1.9287498479639178e-22)  # e^-50


@device_function
def not_negative(raw_a, KIND: tl.constexpr):
    """A product's rows, NaN where they are below zero: once for all where a row is used several times."""
    if KIND == "linear" or KIND == "log_sum":
        return raw_a
    checked = ()
    for j in tl.static_range(len(raw_a)):
        checked = checked + (tl.where(raw_a[j] >= 0, raw_a[j], float("nan")),)
    return checked


@device_function
def factor_of(a, KIND: tl.constexpr, CHECKED: tl.constexpr):
    """What one step multiplies by; a product's is NaN below zero, so that a sign error cannot pass for decay. CHECKED says
    that not_negative has seen to that."""
    if KIND == "product_floor":
        # Not tl.maximum: it would round the constant to float32 also where gamma is float64.
        a = tl.where(a <= FLOOR, FLOOR, a) if CHECKED else tl.where(a >= 0, tl.where(a > FLOOR, a, FLOOR), float("nan"))
    elif KIND == "product_exact" and not CHECKED:
        a = tl.where(a >= 0, a, float("nan"))
    return a


@device_function
def reads_before(left, VECTOR: tl.constexpr):
    """`left`, once all reads so far are on their way.

    Left to itself, the assembler moves the use of a row right behind its read, to save registers, and then waits
    for almost every row by itself, which makes some kernels three times slower. It moves nothing across this
    instruction, which does nothing else (it marks a place for profilers). And since nobody knows that `left` is what
    it was, masks are made of it again where they are needed, and not kept.
    """
    if COMPILED:
        left = tl.inline_asm_elementwise("pmevent 0; mov.b32 $0, $1;", "=r,r", [left], tl.int32, is_pure=False, pack=1)
        left = tl.max_constancy(left, [VECTOR])
    return left


@device_function
def as_read(rows, VECTOR: tl.constexpr):
    """The same rows, of which the compiler no longer knows that it has widened them before.

    It would keep the widened numbers of a chunk, and a register holds two of those that were read.
    """
    same = ()
    for j in tl.static_range(len(rows)):
        x = rows[j]
        if COMPILED and x.dtype.primitive_bitwidth == 16 and VECTOR == 2:
            x = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [x], dtype=x.dtype, is_pure=False, pack=2)
        same = same + (x,)
    return same


@device_function
def row_of(raw_a, raw_b, j, KIND: tl.constexpr, ARITHMETIC: tl.constexpr, CHECKED: tl.constexpr):
    """(factor, inflow) of one step; what a kind does not use is anything."""
    a = raw_a[j].to(ARITHMETIC)
    if KIND == "log_sum":
        return a, clip(a, LOWEST_LOG, 0.0)
    return factor_of(a, KIND, CHECKED), raw_b[j].to(ARITHMETIC)


@device_function
def gated_factors(raw_base, raw_context, bias_ptr, d, D, SLOPES: tl.constexpr):
    """Rows of decays, made of two logits whose biases are one for each channel; with SLOPES also of their derivatives for
    either logit."""
    base_bias = tl.load(bias_ptr + d, mask=d < D, other=0.0).to(raw_base[0].dtype)
    context_bias = tl.load(bias_ptr + D + d, mask=d < D, other=0.0).to(raw_base[0].dtype)
    factors = ()
    base_slopes = ()
    context_slopes = ()
    for j in tl.static_range(len(raw_base)):
        base, context = odds_against(raw_base[j], base_bias), odds_against(raw_context[j], context_bias)
        gamma = decay(base, context)
        factors = factors + (gamma,)
        if SLOPES:
            base_slope, context_slope = decay_slopes(gamma, base, context)
            base_slopes = base_slopes + (base_slope,)
            context_slopes = context_slopes + (context_slope,)
    return factors, base_slopes, context_slopes


@device_function
def channels(ptr, row, t, d, stride_b, stride_t, stride_d, VECTOR: tl.constexpr):
    """The places of channels `d` at step `t` of a batch row."""
    if VECTOR == 1:
        d = d * stride_d
    return ptr + (row * stride_b + t * stride_t) * VECTOR + d
