"""The built-in probe: a plugin that needs no service, for the heavy-path gate."""
