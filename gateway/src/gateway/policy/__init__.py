"""The steps of the pipeline: who calls, what they may, and what crosses to the service."""
