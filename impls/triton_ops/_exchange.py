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
def some_late(word, tag, inside):
    return reduce_max((((word >> 32) != tag) & inside).to(tl.int32), axis=0) > 0


@device_function
def awaited_words(word_ptr, tag, inside):
    word = tl.load(word_ptr, mask=inside, other=0, volatile=True)
    while some_late(word, tag, inside):
        word = tl.load(word_ptr, mask=inside, other=0, volatile=True)
    return word


@device_function
def awaited(word_ptr, tag, D, inside, dtype: tl.constexpr):
    """The numbers that have this tag, once all of them have; 0 outside."""
    word = awaited_words(word_ptr, tag, inside)
    if dtype == tl.float64:
        upper = awaited_words(word_ptr + D, tag, inside)
        return ((upper << 32) | (word & 0xFFFFFFFF)).to(tl.float64, bitcast=True)
    else:
        return word.to(tl.int32).to(tl.float32, bitcast=True)


# ---- launch ------------------------------------------------------------------------


def words_of(operand: torch.Tensor) -> torch.Tensor:
    """Both sets of words [2, B, words per number, D] for operands [B, D]; the first holds this one, its tag is 1."""
    halves = operand.contiguous().view(torch.int32).view(*operand.shape, -1).transpose(1, 2)  # the lower one first
    words = torch.zeros((2, *halves.shape), dtype=torch.int64, device=operand.device)
    words[0] = halves.to(torch.int64) & 0xFFFFFFFF | (1 << 32)
    return words
