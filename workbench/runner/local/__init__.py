"""Models that run in this process, with torch and transformers; `providers/local.py` is the way in.

`slots`, `sampling`, `stepping` and `engine` import torch, so they are imported only once a model is
asked for.
"""
