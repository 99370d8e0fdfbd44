"""People who come from another system, Django's above all."""
