"""What the gateway serves itself: one API document of all services, and a page that says how they are."""
