"""Trying values out in place of every combination."""
