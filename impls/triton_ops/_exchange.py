"""How does the operand of a step reach every program of a launch, when each program computes some channels of it?

Through memory, as words of 64 bits that hold a number and the step it belongs to, the tag: whoever waits for it reads until
all words have the tag. A word is written whole, so that needs no barrier and no fence, which would empty the L1 cache.
A float64 takes two words, one for each half of its bits.

Two sets of words take turns. That suffices: who writes an operand has read all of the one before, and nobody wrote its
share of that before it had read all of the one that is overwritten.
"""

import torch
import triton.language as tl

from ._device import reduce_max
from ._launch import device_function

# ---- device code -------------------------------------------------------------------


@device_function
def tagged(bits, tag):
    """The lower 32 of these bits below their tag."""
    return ((tl.zeros_like(bits) + tag) << 32) | (bits & 0xFFFFFFFF)


@device_function
def publish(word_ptr, x, tag, D, inside):
    """Write x; the second word of a number lies D words after its first."""
    dtype: tl.constexpr = x.dtype
    if dtype == tl.float64:
        bits = x.to(tl.int64, bitcast=True)
        tl.store(word_ptr + D, tagged(bits >> 32, tag), mask=inside)
    else:
        bits = x.to(tl.int32, bitcast=True).to(tl.int64)
    tl.store(word_ptr, tagged(bits, tag), mask=inside)


@device_function
def present(k, r, rows, width, FULL: tl.constexpr):
    """Which of the first `width` numbers of row r there are; FULL: all rows are there."""
    if FULL:
        return k < width
    else:
        return k < tl.where(r < rows, width, 0)


@device_function
def load_words(word_ptr, stride, rows, k, D: tl.constexpr, ABREAST: tl.constexpr, FULL: tl.constexpr):
    words = ()
    for r in tl.static_range(ABREAST):
        inside = present(k, r, rows, D, FULL)
        words = words + (tl.load(word_ptr + r * stride + k, mask=inside, other=0, volatile=True),)
    return words


@device_function
def some_late(words, rows, tag, k, D: tl.constexpr, ABREAST: tl.constexpr, FULL: tl.constexpr):
    late = ((words[0] >> 32) != tag) & present(k, 0, rows, D, FULL)
    for r in tl.static_range(1, ABREAST):
        late |= ((words[r] >> 32) != tag) & present(k, r, rows, D, FULL)
    return reduce_max(late.to(tl.int32), axis=0) > 0


@device_function
def awaited_words(word_ptr, stride, rows, tag, k, D: tl.constexpr, ABREAST: tl.constexpr, FULL: tl.constexpr):
    words = load_words(word_ptr, stride, rows, k, D, ABREAST, FULL)
    while some_late(words, rows, tag, k, D, ABREAST, FULL):
        words = load_words(word_ptr, stride, rows, k, D, ABREAST, FULL)
    return words


@device_function
def awaited(word_ptr, rows, tag, k, D: tl.constexpr, dtype: tl.constexpr, ABREAST: tl.constexpr, FULL: tl.constexpr):
    """Of ABREAST operands, the first of which begins at word_ptr, the numbers k once all have this tag; 0 where there
    is none: from D or from `rows` operands on."""
    words_each: tl.constexpr = 2 if dtype == tl.float64 else 1
    words = awaited_words(word_ptr, words_each * D, rows, tag, k, D, ABREAST, FULL)
    found = ()
    if dtype == tl.float64:
        upper = awaited_words(word_ptr + D, words_each * D, rows, tag, k, D, ABREAST, FULL)
        for r in tl.static_range(ABREAST):
            found = found + (((upper[r] << 32) | (words[r] & 0xFFFFFFFF)).to(tl.float64, bitcast=True),)
    else:
        for r in tl.static_range(ABREAST):
            found = found + (words[r].to(tl.int32).to(tl.float32, bitcast=True),)
    return found


# ---- launch ------------------------------------------------------------------------


def words_of(operand: torch.Tensor) -> torch.Tensor:
    """Both sets of words [2, B, words per number, D] for operands [B, D]; the first holds this one, its tag is 1."""
    halves = operand.contiguous().view(torch.int32).view(*operand.shape, -1).transpose(1, 2)  # the lower one first
    words = torch.zeros((2, *halves.shape), dtype=torch.int64, device=operand.device)
    words[0] = halves.to(torch.int64) & 0xFFFFFFFF | (1 << 32)
    return words
