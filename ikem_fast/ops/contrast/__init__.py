"""The bank losses of other codebases: with gradients of keys, soft targets, neighbors, many positives."""
