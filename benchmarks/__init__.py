"""Speed and memory of this project beside its bare convolutions and beside normflows' Glow."""
