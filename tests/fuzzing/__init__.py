"""Odd input of every kind for `glow`: what a user gives ends in a sentence."""
