"""ci: what a test run proves, as a delta against a baseline."""
