"""Studies that train their models."""
