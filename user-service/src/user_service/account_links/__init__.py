"""Mailed links: asking for one, and what a followed one does."""
