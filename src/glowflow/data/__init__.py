"""Images as one memory-mapped array: where they come from and how they are read."""
