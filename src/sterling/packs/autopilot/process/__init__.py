"""The process: phases and their 81 pairs, the states of a task, the order of checks, the commit."""
