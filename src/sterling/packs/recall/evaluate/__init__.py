"""Question sets that anybody can bring, answered by one side and scored by another."""
