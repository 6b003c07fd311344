"""The CUDA kernels: their sources, and what compiles them."""
