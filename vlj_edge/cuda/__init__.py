"""The compiled CUDA kernels, which GPU runs which, and the parameters and tables that each is launched with.

`export` puts kernels into TensorRT engines and `runtime` launches them directly; both describe a launch with these
modules. What talks to a GPU is in runtime/engines/tensorrt; the kernels' sources are in export/kernels.
"""
