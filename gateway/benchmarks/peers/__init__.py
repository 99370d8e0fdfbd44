"""The peers as they run: configuration and small programs, each to be read and objected to."""
