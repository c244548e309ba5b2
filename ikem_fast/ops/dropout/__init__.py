"""Dropout with the numbers of torch's own, drawn faster on a CPU."""
