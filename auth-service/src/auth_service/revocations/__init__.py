"""What ended early, and the stream that tells every verifier."""
