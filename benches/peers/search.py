"""gibbs against evosax (JAX) on this machine: the same policy search, measured in turns, A B A B …, with a check that both
compute the same returns. Run it in an environment with search-requirements.txt installed; see SEARCH.md."""

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
# Over a few hundred steps a swinging pole makes a rounding error visible.
STEPS_OF_CHECK = 100


def output(command):
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"{done.stderr}{' '.join(map(str, command))} failed with status {done.returncode}")
    return done.stdout.strip()


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
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--episodes", type=int, default=4, help="of each row")
    parser.add_argument("--steps", type=int, default=1000, help="of each episode")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=50, help="that are timed, in each process")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of both sides; Linux only [default: all]")
    parser.add_argument("--shards", type=int, help="of evosax: virtual devices that share the rows [default: one a thread]")
    parser.add_argument("--backend", default="cpu", help="of gibbs: cpu, software, gpu or auto")
    parser.add_argument("--at-least", type=float, default=0.0, metavar="R", help="fail below this ratio")
    told = parser.parse_args()
    if told.threads:
        # Both sides take as many threads as they may run on, and inherit this.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: told.threads])

    names = ("jax", "jaxlib", "evosax", "optax", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"machine: {machine()}")
    print(f"versions: {output(['rustc', '--version'])}; Python {platform.python_version()}, {versions}")
    output(["cargo", "build", "--release", "--quiet", "--example", "peer_search"])
    built = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / "peer_search"
    network = ["--episodes", str(told.episodes), "--hidden", str(told.hidden)]
    gibbs = [str(built), "--backend", told.backend, *network]
    evosax = [sys.executable, str(HERE / "evosax_search.py"), *network]
    title = f"{told.rows} rows × {told.episodes} episodes × {told.steps} steps, {told.hidden} hidden units"
    print(f"\n{title}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        short = ["--steps", str(STEPS_OF_CHECK)]
        output([*gibbs, *short, "--rows", "2", "--iterations", "1", "--dump", folder])
        print(f"check: {output([*evosax, *short, '--check', folder])}", flush=True)

    sizes = ["--rows", str(told.rows), "--steps", str(told.steps), "--iterations", str(told.iterations)]
    if told.shards:
        evosax += ["--shards", str(told.shards)]
    medians, rates = {"gibbs": [], "evosax": []}, {"gibbs": [], "evosax": []}
    for turn in range(told.rounds):
        for name, command in (("gibbs", gibbs), ("evosax", evosax)):
            median, rate = map(float, output([*command, *sizes]).splitlines()[-1].split(",")[6:])
            medians[name].append(median)
            rates[name].append(rate)
            load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
            speed = f"{1e-6 * rate:6.2f} million steps a second"
            print(f"round {turn + 1}: {name:6} {median:8.3f} ms an iteration, {speed}{load}", flush=True)
    for name, values in medians.items():
        middle, rate = statistics.median(values), statistics.median(rates[name])
        spread = f"median of {len(values)} runs, {min(values):.3f} to {max(values):.3f}"
        print(f"{name:6} {middle:8.3f} ms an iteration ({spread}), {1e-6 * rate:.2f} million steps a second")
    ratio = statistics.median(b / a for a, b in zip(medians["gibbs"], medians["evosax"]))
    print(f"gibbs takes 1/{ratio:.2f} of evosax's time (median of the ratios round by round)", flush=True)
    if ratio < told.at_least:
        sys.exit(f"1/{ratio:.2f} is more than the 1/{told.at_least:g} asked for")


if __name__ == "__main__":
    main()
