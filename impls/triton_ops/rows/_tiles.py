"""How are rows and channels divided among programs that must all be resident at once?"""

from typing import Any

import torch

from .._launch import INTERPRETED, cdiv, processors_of, shared_memory

MOST_ROWS = 32 if INTERPRETED else 512  # more rows mean fewer steps, but none of the first of each chunk is saved
SHARED = 196608  # bytes of shared memory that the stages of a tile may take, where a multiprocessor has so much


def choices() -> list[dict[str, Any]]:
    """Tiles from the smallest on, SPLITS programs each, which share the sum, and of its rows take SLICE at a time."""
    if INTERPRETED:
        return [{"BLOCK_R": 16, "BLOCK_D": 16, "BLOCK_K": 16, "SLICE": 8, "SPLITS": 2, "num_warps": 8}]
    return [
        {"BLOCK_R": 16, "BLOCK_D": 64, "BLOCK_K": 128, "SLICE": 8, "SPLITS": 2, "num_warps": 8},
        {"BLOCK_R": 64, "BLOCK_D": 64, "BLOCK_K": 64, "SLICE": 16, "SPLITS": 2, "num_warps": 4},
        {"BLOCK_R": 128, "BLOCK_D": 128, "BLOCK_K": 64, "SLICE": 16, "SPLITS": 4, "num_warps": 8},
        {"BLOCK_R": 128, "BLOCK_D": 128, "BLOCK_K": 64, "SLICE": 16, "SPLITS": 2, "num_warps": 8},
        {"BLOCK_R": 128, "BLOCK_D": 128, "BLOCK_K": 64, "SLICE": 32, "SPLITS": 1, "num_warps": 8},
    ]


def tiles(rows: int, D: int, parts: int, weight_parts: int, processors: int, shared: int = SHARED) -> dict[str, Any]:
    """The smallest tiles of which every program has a multiprocessor, or the barrier would wait for ever; as many stages
    as there is room for, of half as many channels if there were fewer than three."""
    for options in choices():
        programs = cdiv(rows, options["BLOCK_R"]) * cdiv(D, options["BLOCK_D"]) * options["SPLITS"]
        if programs <= processors:
            break
    width = options["BLOCK_R"] * parts + options["BLOCK_D"] * weight_parts  # numbers of a stage for each channel
    if INTERPRETED:
        return {**options, "STAGES": 1}
    if 3 * 2 * options["BLOCK_K"] * width > shared:
        options = {**options, "BLOCK_K": options["BLOCK_K"] // 2}
    return {**options, "STAGES": max(2, min(6, shared // (2 * options["BLOCK_K"] * width)))}


def most_rows(D: int, device: torch.device) -> int:
    """Rows that can be advanced at once, with the largest tiles."""
    if INTERPRETED:
        return MOST_ROWS
    largest = choices()[-1]
    return min(MOST_ROWS, processors_of(device) // cdiv(D, largest["BLOCK_D"]) * largest["BLOCK_R"])


def shared_of(device: torch.device) -> int:
    """What the stages of a tile may take of this device's shared memory."""
    return min(SHARED, shared_memory(device))
