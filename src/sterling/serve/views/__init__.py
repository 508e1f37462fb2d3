"""Read models: one pure function a screen, shared by the command line and later faces."""
