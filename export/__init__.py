"""Everything that happens before the device: weights become ONNX engines, which are compared with torch and bundled.

bundle.py is the main path. This is the only folder that imports torch; nothing in runtime/ is imported here.
"""
