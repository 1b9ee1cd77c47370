"""Local models, run in this process with torch and transformers; `provider.py` is the entry.

`slots`, `sampling` and `engine` import torch, so they are imported only once a model is used.
"""
