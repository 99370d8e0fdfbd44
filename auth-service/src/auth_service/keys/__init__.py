"""The ring of signing keys: next, current, retired."""
