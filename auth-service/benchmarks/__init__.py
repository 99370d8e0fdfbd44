"""Measures auth-service against bare peers: `make bench SUITE=auth`."""
