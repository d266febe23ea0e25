"""Other people's checkpoints, and models that leave for other software."""
