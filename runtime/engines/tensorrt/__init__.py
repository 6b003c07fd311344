"""The TensorRT backend: engines on an NVIDIA card, the CUDA device behind them, and preprocessing by CUDA kernels.

Nothing outside this folder calls CUDA, except the tests and benchmarks of the kernels.
"""
