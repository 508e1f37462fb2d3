"""`python -m sterling` is the same program as `sterling`."""

from sterling.cli.main import main

if __name__ == "__main__":
    main()
