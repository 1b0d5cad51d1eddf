"""Measures what a network carries and how fast a model computes, as the virtual clock reads it."""
