"""What momentum contrast does between steps: key encoders follow, the bank takes new keys."""
