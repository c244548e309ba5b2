"""The blocks of an encoder on a CPU, by kernels between convolutions."""
