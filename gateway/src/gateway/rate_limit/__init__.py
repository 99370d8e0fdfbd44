"""Allowances: shares of the limits that all workers spend together, and bounds for each address."""
