"""ONNX graphs: exporting them from torch, changing their precision, quantising weights, and operators of our own.

The torch modules are in models/; building TensorRT engines from the graphs is in tensorrt/.
"""
