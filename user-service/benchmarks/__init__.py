"""What user-service costs, and what async gains."""
