"""What all workers in Python share: the protocol of examples/peer, the clock, and the check against gibbs.

    time TASK K T UPDATES    answers library,threads,task,K,T,median_ms,min_ms[,mean_reward]
    check TASK DIR           compares with what gibbs dumped there; answers `ok: …` or `WRONG: …`
    versions                 answers with the versions of what the worker uses

A library is a module with `make(task, samples, horizon)`, which returns a function that makes one update, from zero controls
on, and returns the mean cost of its samples, and `recompute(task, start, rows, costs)`, which returns the costs of the rows
[K, T, M] and the mean of the rows under the given costs. What returns is computed: no work may be left in a queue."""

import importlib.metadata
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from problems import TASKS

WARM_UP, AGAIN = 20, 3  # updates that do not count: of a new size, compilation included, and of one that was timed before


def threads():
    told = os.environ.get("OMP_NUM_THREADS")
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(told) if told else there


def read(folder, name):
    return np.fromfile(Path(folder, name).with_suffix(".f32"), "<f4")


def clock(update, updates):
    """Milliseconds of each update, and what each returned."""
    times, values = [], []
    for _ in range(updates):
        begun = time.perf_counter()
        values.append(update())
        times.append(1e3 * (time.perf_counter() - begun))
    return times, values


def check(make, recompute, task, folder):
    start, rows, costs, mean = (read(folder, name) for name in ("start", "rows", "costs", "mean"))
    controls = len(TASKS[task].sigma)
    rows, mean = rows.reshape(costs.size, -1, controls), mean.reshape(-1, controls)
    ours, averaged = recompute(task, tuple(start), rows, costs)
    error = float(np.max(np.abs(ours - costs) / (1.0 + np.abs(ours))))
    # The mean is checked under the same costs: λ is small beside them, so their rounding would show in the weights.
    drift = float(np.max(np.abs(averaged - mean)))
    report = f"costs differ by at most {error:.1e} relative, the mean by {drift:.1e}"
    right = error < 1e-4 and drift < 1e-3
    if tuple(start) == tuple(np.float32(TASKS[task].start)):
        # And the update that is timed, with noise of its own: the mean cost of its samples, in standard errors of two means.
        off = abs(make(task, *rows.shape[:2])() - costs.mean()) / (costs.std() * np.sqrt(2.0 / costs.size))
        report += f", the mean cost of its own samples by {off:.1f} standard errors"
        right &= bool(off < 4.5)
    return ("ok: " if right else "WRONG: ") + report


def serve(library, packages, make, recompute, other=None):
    """Answers requests until standard input ends. Tasks that `other` has are timed and checked by it."""
    other = other or {}
    made = {}
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "versions":
            answer = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
        elif verb == "check":
            task, folder = words
            answer = other[task].check(folder) if task in other else check(make, recompute, task, folder)
        elif verb == "time":
            task, samples, horizon, updates = words[0], *map(int, words[1:])
            key = task, samples, horizon
            fresh = key not in made
            if fresh:
                made[key] = (other[task].make if task in other else make)(*key)
            clock(made[key], WARM_UP if fresh else AGAIN)
            times, values = clock(made[key], updates)
            figures = [statistics.median(times), min(times)] + ([statistics.mean(values)] if task in other else [])
            answer = ",".join(map(str, (library, threads(), *key, *(f"{figure:.4f}" for figure in figures))))
        else:
            sys.exit(f"what is `{line.strip()}`?")
        print(answer, flush=True)
