"""The harness of the end-to-end suites: systems under test, faults, load, and the report."""
