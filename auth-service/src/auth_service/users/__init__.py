"""What auth-service asks user-service, and what it hears of people."""
