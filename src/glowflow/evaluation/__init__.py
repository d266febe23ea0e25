"""Figures about a model and about images: bits per dimension, scores, baselines."""
