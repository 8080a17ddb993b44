"""Trains a tiny ACN in a process of its own, which may kill itself inside a save.

    driver.py FOLDER JOB [JOB ...]       each job has a folder of its own in FOLDER

DIE=seeds:committed:2 dies in the job `seeds` at the second save of this process: `writing` (Orbax
is at it), `committed` (Orbax is done, there is no manifest) or `sealed` (just after the manifest).
"""

import os
import pathlib
import signal
import sys
import threading
import time

import jax
import numpy as np
import tiny

from jaxae.evaluation import mean_over
from jaxae.training import Plan, fit
from jaxae.training import checkpoint as checkpoint_module

FIELDS = {"steps": 120, "batch_size": 16, "log_every": 4, "save_every": 20, "eval_every": 28,
          "devices": 1, "loop": "scan", "refresh_first": True, "refresh_every": 44}  # fmt: skip
JOBS = {
    "scan": Plan(**FIELDS),
    "seeds": Plan(**FIELDS | {"seeds": 2, "seeds_by": "vmap"}),
    "calls": Plan(**FIELDS | {"seeds": 2, "seeds_by": "sequence", "loop": "calls"}),
    "pmap": Plan(**FIELDS | {"parallel": "pmap", "devices": 2}),
}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str, save: int) -> None:
    """Makes the process kill itself at a moment of its `save`-th save."""
    write, saves = checkpoint_module.write_atomically, []

    def die_while_writing(folder):
        while not any(f.is_file() for tmp in folder.glob("*orbax*tmp*") for f in tmp.rglob("*")):
            time.sleep(0.0005)
        die()

    def watched(path, data):
        saves.extend([path] * (path.name == checkpoint_module.SAVING))
        now = len(saves) == save
        if now and moment == "writing" and path.name == checkpoint_module.SAVING:
            threading.Thread(target=die_while_writing, args=(path.parent,)).start()
        if now and moment == "committed" and path.name == checkpoint_module.MANIFEST:
            die()
        write(path, data)
        if now and moment == "sealed" and path.name == checkpoint_module.MANIFEST:
            die()

    checkpoint_module.write_atomically = watched


def main(folder: str, *jobs: str) -> None:
    where, moment, save = (os.environ.get("DIE") or "::0").split(":")
    data = tiny.images()
    model = tiny.make("acn", data)
    for job in jobs:
        workdir = pathlib.Path(folder) / job
        workdir.mkdir(parents=True, exist_ok=True)
        if job == where:
            arm(moment, int(save))

        def held_out(state):
            return mean_over(
                model.evaluate, state, data.test, 11, jax.random.key(1), per_example=False
            )

        fitted = fit(model, data, JOBS[job], workdir, evaluate=held_out, quiet=True)
        np.savez(workdir / "final.npz", **tiny.leaves(fitted.states))
        for state in fitted.states:  # every device holds the same
            for leaf in jax.tree.leaves(state):
                assert len({np.asarray(s.data).tobytes() for s in leaf.addressable_shards}) == 1
        print(f"{job} is done on {fitted.mode.devices} devices", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
