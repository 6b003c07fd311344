"""What is done with embeddings without a decoder: labels, classification, questions, novelty, and files of embeddings.

Functions here take embeddings or a Model. Nothing here reads video, runs an engine itself, or makes words.
"""
