"""One training run: configuration, objective, loop, state, validation."""
