"""Which service a request belongs to: the routes that services publish, as one table."""
