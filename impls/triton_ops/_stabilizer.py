"""Norm and clip of the stabilized recurrence inside kernels, and their adjoint (REC-14, REC-15, ADJ-6, ADJ-8).

A channel is computed in more than one place: where it is stored, and where W multiplies all of them. So that the bits agree
no product and sum meet that the compiler may or may not fuse: where they do, it is a fused multiply-add by name.
"""

import triton.language as tl

from ._device import clip, reduce_sum
from ._launch import device_function


@device_function
def moments(u, inside, D, NORM: tl.constexpr, EPS: tl.constexpr):
    """The mean of u that a layer norm takes off, and one over the deviation; u is 0 outside."""
    mean = 0.0
    scale = 1.0
    if NORM == "layer":
        mean = reduce_sum(u, axis=0) / D
        u = tl.where(inside, u - mean, 0.0)
    if NORM != "none":
        scale = tl.rsqrt(reduce_sum(u * u, axis=0) / D + EPS)
    return mean, scale


@device_function
def standardized(u, mean, scale, NORM: tl.constexpr):
    """u in units of its deviation; u itself without a norm."""
    if NORM == "layer":
        return (u - mean) * scale
    elif NORM == "rms":
        return u * scale
    else:
        return u


@device_function
def normalized(standard, weight, shift, NORM: tl.constexpr):
    if NORM == "layer":
        return tl.fma(standard, weight, shift)
    elif NORM == "rms":
        return standard * weight
    else:
        return standard


@device_function
def stabilized(u, mean, scale, weight, shift, NORM: tl.constexpr, limit):
    return clip(normalized(standardized(u, mean, scale, NORM), weight, shift, NORM), -limit, limit)


@device_function
def before_clip(wanted, standard, weight, shift, NORM: tl.constexpr, limit):
    """The gradient of what is clipped, given that of the state: none where the clip binds."""
    return tl.where(tl.abs(normalized(standard, weight, shift, NORM)) <= limit, wanted, 0.0)


@device_function
def averages(pull, standard, D, NORM: tl.constexpr):
    """What the norm's adjoint takes off the gradient of `standard`: along it, and, a layer norm's, from all channels."""
    along = 0.0
    level = 0.0
    if NORM != "none":
        along = reduce_sum(pull * standard, axis=0) / D
    if NORM == "layer":
        level = reduce_sum(pull, axis=0) / D
    return along, level


@device_function
def before_norm(pull, standard, scale, along, level, NORM: tl.constexpr):
    """The gradient of u, given that of `standard`."""
    if NORM == "layer":
        return tl.fma(standard, -along, pull - level) * scale
    elif NORM == "rms":
        return tl.fma(standard, -along, pull) * scale
    else:
        return pull
