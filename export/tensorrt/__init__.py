"""Building TensorRT engines from a bundle's ONNX files, with the plugins of the fused flavour.

What is built is stored by vlj_edge/bundle/engine_cache.py and run by runtime/engines/tensorrt.
"""
