"""The compiled CUDA kernels, the choice of the kernel for a GPU, and launch parameters and tables.

`export` puts kernels into TensorRT engines and `runtime` launches them directly; both describe a launch with these
modules. Code that uses a GPU is in runtime/engines/tensorrt; the kernels' sources are in export/kernels.
"""
