"""Runs a training that kills itself at a given point of its work on the disk, for `test_death.py`.

    python -m tests.die POINT before|after COUNT ARGUMENTS_OF_TRAIN…

A point is a function of the program. The process kills itself right before or right after the COUNT-th call of this
function. If the function no longer exists, there is an error. If it is called fewer times, the process ends with code
77.
"""

import importlib
import os
import runpy
import signal
import sys

POINTS = {
    "claim": "wgan_jax.run.workdir:write_atomically",
    "begin": "wgan_jax.run.checkpoint:begin",
    "seal": "wgan_jax.run.seal:write_seal",
    "name": "pathlib:Path.rename",
    "checkpoint": "wgan_jax.run.checkpoint:finish",
    "prune": "wgan_jax.run.checkpointer:Checkpointer._prune",
    "delete": "wgan_jax.run.seal:remove",
    "records": "wgan_jax.report.records:Records.flush",
    "sample": "wgan_jax.report.pictures:write_atomically",
    "leave": "wgan_jax.run.checkpointer:Checkpointer.__exit__",
    "plots": "wgan_jax.run.training:draw_plots",
}


def arm(point: str, when: str, count: int) -> None:
    """Replaces the function of a point by one that kills the process."""
    module, _, name = POINTS[point].partition(":")
    *path, last = name.split(".")
    place = importlib.import_module(module)
    for part in path:
        place = getattr(place, part)
    real, calls = getattr(place, last), []

    def dying(*args, **kwargs):
        calls.append(None)
        if when == "before" and len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if when == "after" and len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, last, dying)


if __name__ == "__main__":
    point, when, count, *args = sys.argv[1:]
    sys.argv = ["train", *args]
    arm(point, when, int(count))
    try:
        runpy.run_module("wgan_jax.train", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        sys.exit(end.code or 77)
    sys.exit(77)
