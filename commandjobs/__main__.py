"""`python -m commandjobs` is the `commandjobs` program."""

from commandjobs.cli import main

if __name__ == "__main__":
    main()
