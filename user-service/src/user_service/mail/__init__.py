"""Mails: the outbox, whom each is for, its words, and sending it."""
