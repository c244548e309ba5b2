"""Encoders of clips: their contract and table in `base`, one file each."""
