"""The CUDA kernels' sources and the command that compiles them (compile.py).

The compiled kernels, and the Python that says how each is launched, are in vlj_edge/cuda.
"""
