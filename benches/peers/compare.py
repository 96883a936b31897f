"""gibbs against JAX on this machine: the same MPPI update, measured in turns, A B A B …, with a check that both compute
the same. Run it in an environment with requirements.txt installed; see README.md."""

import argparse
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def output(command, **options):
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed with status {done.returncode}")
    return done.stdout.strip()


def build():
    output(["cargo", "build", "--release", "--quiet", "--example", "peer_cartpole"])
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    return ROOT / target / "release" / "examples" / "peer_cartpole"


def machine():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {threads} threads, {platform.system()} {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--horizon", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--backend", default="cpu", help="of gibbs: cpu, software, gpu or auto")
    parser.add_argument("--at-least", type=float, default=0.0, metavar="R", help="fail below this ratio")
    arguments = parser.parse_args()

    sizes = ["--samples", str(arguments.samples), "--horizon", str(arguments.horizon)]
    gibbs = [str(build()), "--backend", arguments.backend, *sizes]
    jax = [sys.executable, str(HERE / "jax_cartpole.py"), *sizes]

    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "numpy"))
    print(f"machine: {machine()}")
    print(f"versions: {output(['rustc', '--version'])}; Python {platform.python_version()}, {versions}")
    print(f"update: K = {arguments.samples}, T = {arguments.horizon}")
    with tempfile.TemporaryDirectory() as folder:
        output([*gibbs, "--updates", "1", "--dump", folder])
        print(f"check: {output([*jax, '--check', folder])}")

    medians = {"gibbs": [], "jax": []}
    for turn in range(arguments.rounds):
        for name, command in (("gibbs", gibbs), ("jax", jax)):
            median, least = map(float, output(command).splitlines()[-1].split(",")[-2:])
            medians[name].append(median)
            load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
            print(f"round {turn + 1}: {name:5} median {median:8.3f} ms, least {least:8.3f} ms{load}", flush=True)
    for name, values in medians.items():
        middle = statistics.median(values)
        print(f"{name:5} {middle:8.3f} ms (median of {len(values)} runs, {min(values):.3f} to {max(values):.3f})")
    ratio = statistics.median(b / a for a, b in zip(medians["gibbs"], medians["jax"]))
    print(f"gibbs takes 1/{ratio:.1f} of JAX's time (median of the ratios round by round)")
    if ratio < arguments.at_least:
        sys.exit(f"that is below the 1/{arguments.at_least:g} asked for")


if __name__ == "__main__":
    main()
