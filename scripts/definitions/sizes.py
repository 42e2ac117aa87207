"""Bytes that a parameter takes, of the disk and of the memory of what serves: measured, tables and graph counted in."""

from __future__ import annotations

#: A checkpoint that is written in float32, and a float export.
CHECKPOINT, EXPORT = 4.0, 4.2
#: Of memory: float32 weights, packed for the processor; and 8 bits with scales and some float32.
SERVED_IN_FLOAT, SERVED_QUANTISED = 4.2, 1.6
#: Bits of a weight at most → bytes, the head's and the embedding's 8 bits counted in.
_PRECISIONS = ((4, 0.85), (8, 1.2), (16, 2.1))
#: Bytes of a precision in 4 bits whose embedding is stored in float16, a fifth of all parameters (SmolLM2-135M).
FLOAT_EMBEDDING = 1.2
#: What `target_bits` takes of the disk while it measures: each matrix in 4 bits, with scales in float32.
ROUNDED = 0.7


def of_bits(bits: float) -> float:
    """Bytes a parameter of the files of a precision whose matrices have so many bits a weight."""
    return next((size for most, size in _PRECISIONS if bits <= most), EXPORT)


def of_whole(bits: float) -> float:
    """Bytes a parameter where all of the file has so many bits a weight: `target_bits`."""
    return bits / 8
