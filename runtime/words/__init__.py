"""From an embedding to a text: greedy decoding, the caption bank, and tokenizers.

Gates that decide whether a text is made are in runtime/gating; labels are in runtime/embedding.
"""
