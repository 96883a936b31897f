"""gibbs against MPPI-Generic on one CUDA card: the same MPPI update, measured in turns, A B A B …, with a check that both
compute the same costs. Build drive.cu first; see README.md. Needs nothing but Python."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = (128, 512, 1024, 2048, 4096, 8192, 16384)


def output(command):
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}{' '.join(map(str, command))} failed with status {done.returncode}")
    return done.stdout.strip()


def measured(command):
    """What runs, and the median in ms. Libraries talk, too: only the line of CSV counts."""
    lines = output(command).splitlines()
    fields = next((line for line in lines if line.startswith(("gibbs", "mppi-generic"))), "").split(",")
    if len(fields) != 7:
        sys.exit(f"no measurement in what {' '.join(command)} says: {lines}")
    return f"{fields[0]} on {fields[1]}", float(fields[5])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drive", default="target/cuda/drive", help="the program built from drive.cu")
    parser.add_argument("--samples", type=int, nargs="+", default=SAMPLES, choices=SAMPLES, metavar="N")
    parser.add_argument("--updates", type=int, default=1000, help="that are timed, in each process")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="gpu", help="of gibbs: gpu or cpu")
    parser.add_argument("--at-least", type=float, default=0.0, metavar="R", help="fail if any ratio is below")
    told = parser.parse_args()

    output(["cargo", "build", "--release", "--quiet", "--example", "peer"])
    gibbs = str(ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / "peer")
    gibbs = [gibbs, "--backend", told.backend]
    drive = str(ROOT / told.drive)
    # From the published start no robot comes near a disc of the map in 2 s; from the other start they do.
    for task in ("drive", "drive-amid"):
        with tempfile.TemporaryDirectory() as folder:
            output([*gibbs, "--task", task, "--samples", "4096", "--updates", "1", "--dump", folder])
            print(f"check of {task}: {output([drive, '--check', folder])}", flush=True)

    ratios = []
    for samples in told.samples:
        sizes = ["--samples", str(samples), "--updates", str(told.updates)]
        sides = {"gibbs": [*gibbs, "--task", "drive", *sizes], "mppi-generic": [drive, *sizes]}
        medians = {side: [] for side in sides}
        whats = {}
        for _ in range(told.rounds):
            for side, command in sides.items():
                whats[side], median = measured(command)
                medians[side].append(median)
        print(f"\nN = {samples}, T = 100")
        for side, values in medians.items():
            spread = f"median of {len(values)} runs, {min(values):.4f} to {max(values):.4f}"
            print(f"{whats[side]}: {statistics.median(values):.4f} ms ({spread})")
        pairs = zip(medians["gibbs"], medians["mppi-generic"])
        ratios.append(statistics.median(theirs / ours for ours, theirs in pairs))
        print(f"MPPI-Generic takes {ratios[-1]:.2f} times as long as gibbs", flush=True)
    if min(ratios) < told.at_least:
        sys.exit(f"{min(ratios):.2f} is less than the {told.at_least:g} asked for")


if __name__ == "__main__":
    main()
