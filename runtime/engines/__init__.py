"""Engines: the Engine protocol, the backends that implement it, and how a backend is chosen and tuned.

An engine runs one graph of a bundle with buffers that are allocated once. How engines are joined is in
runtime/chain.py; building TensorRT engines belongs to export/tensorrt.
"""
