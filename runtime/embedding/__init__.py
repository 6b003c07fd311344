"""Uses of embeddings that need no decoder: labels, classification, questions, novelty, and files of embeddings.

Functions here take embeddings or a Model. Nothing here reads video, runs an engine itself, or makes words.
"""
