"""Train a model and look at it: `python experiments/run.py --model acn`; the same as `jaxae`."""

from jaxae.command.main import console

if __name__ == "__main__":
    console()
