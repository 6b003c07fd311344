"""From an embedding to text, and from text to token ids: the decoder's loop and the tokenizers.

Whether an embedding is worth a text is decided in gating/.
"""
