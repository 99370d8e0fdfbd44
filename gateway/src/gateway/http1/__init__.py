"""HTTP/1.1 as the gateway reads and writes it: one way to read a request, or a refusal."""
