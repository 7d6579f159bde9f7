"""A model of an H100 that predicts the time of kernels from their machine code."""
