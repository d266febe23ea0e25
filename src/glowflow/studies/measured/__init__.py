"""Studies that measure a trained model."""
