"""Losses of features against a memory bank."""
