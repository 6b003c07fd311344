"""Engines: the Engine protocol, the backends that implement it, and the choice and tuning of a backend.

An engine runs one graph of a bundle with buffers that are allocated once. How engines are joined is in
runtime/chain.py; building TensorRT engines belongs to export/tensorrt.
"""
