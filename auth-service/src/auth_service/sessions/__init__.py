"""Refresh families: start, rotate, reuse detection, list, end."""
