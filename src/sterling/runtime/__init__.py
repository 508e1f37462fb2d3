"""What may run, and running it: governor, plans, workers, outcomes, plugins."""
