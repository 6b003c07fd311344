"""Families of public checkpoints: one file each. It says which config.json it accepts, what the model's frames, texts
and scores are, and how its parts become engines; checkpoint.py and find.py need no torch.

To add one: a module with ARCHITECTURES, read_shape() and open_model(), and its name in find.py.
"""
