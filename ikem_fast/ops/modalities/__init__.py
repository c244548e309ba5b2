"""The six modalities of a clip, derived in one pass."""
