"""Losses of the statistics of a batch of features, without the matrix of features by features."""
