"""The models, each from top to bottom like the figure of its paper."""
