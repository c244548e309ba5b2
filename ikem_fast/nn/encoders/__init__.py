"""Encoders by name: (N,C,T,V,M) → (output, pooled feature)."""
