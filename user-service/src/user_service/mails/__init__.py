"""Mails with a link, and what happens when somebody follows it."""
