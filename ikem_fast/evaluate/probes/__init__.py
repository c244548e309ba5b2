"""What is put on frozen features to see what they know; each probe learns from training clips alone."""
