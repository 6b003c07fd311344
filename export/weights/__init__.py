"""Reading checkpoints and tokenizers from files, checked, under the names of the modules in models/.

Nothing is unpickled. Building the modules and exporting them is done elsewhere.
"""
