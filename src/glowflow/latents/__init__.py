"""The latent space: codes, directions, edits, what lives at which level."""
