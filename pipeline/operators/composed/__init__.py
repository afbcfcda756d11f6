"""Operators that are made of others: `tta(indoor; flips)`, `ensemble(A, B)`, `relabel(A, nyu40)` and so on."""
