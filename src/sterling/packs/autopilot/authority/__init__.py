"""The authority: the one process that owns a task's record and runs its checks. Agents can only ask."""
