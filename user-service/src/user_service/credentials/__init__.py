"""Checking and changing what a person signs in with."""
