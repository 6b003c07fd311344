"""Everything that happens on the device: from a source of frames to embeddings, texts, and their use.

Read model.py first, then chain.py. Nothing here needs torch or the code in export/; the bundle is all that passes
between the two. Which folder may import which is listed in tests/test_import_rules.py.
"""
