"""A model of an H100: how long kernels would take, from their machine code."""
