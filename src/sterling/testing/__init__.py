"""Fakes and contract suites for tests and plugin authors. Product code never imports this."""
