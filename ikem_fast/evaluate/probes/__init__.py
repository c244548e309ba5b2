"""What is put on frozen features to see what they know: linear classifiers, votes of the nearest clips."""
