"""`python -m nbtasks`: the command line where its script is not on the path."""

from nbtasks.cli import main

if __name__ == "__main__":
    main(prog_name="python -m nbtasks")
