"""How K steps run fast and in flat memory: the one folder that knows what others are made of."""
