"""`python -m jaxae`: the command."""

from jaxae.command.main import console

if __name__ == "__main__":
    console()
