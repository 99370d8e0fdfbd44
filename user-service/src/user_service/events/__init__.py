"""What happened to people, told to other services in order."""
