"""What there is to train, one file each; `Task` says what one has to be."""
