"""Who did what to whom, when and from where; only ever added to."""
