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


def build(example):
    output(["cargo", "build", "--release", "--quiet", "--example", example])
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    return str(ROOT / target / "release" / "examples" / example)


def machine():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {threads} threads, {platform.system()} {platform.release()}"


def compare(title, gibbs, jax, once, rounds):
    """Measures the two commands in turns; returns how many times as long JAX takes."""
    print(f"\n{title}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        output([*gibbs, *once, "--dump", folder])
        print(f"check: {output([*jax, '--check', folder])}", flush=True)

    medians = {"gibbs": [], "jax": []}
    rewards = {}
    for turn in range(rounds):
        for name, command in (("gibbs", gibbs), ("jax", jax)):
            median, least, *reward = map(float, output(command).splitlines()[-1].split(",")[4:])
            medians[name].append(median)
            rewards[name] = "".join(f", mean reward {value:.3f}" for value in reward)
            load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
            print(f"round {turn + 1}: {name:5} median {median:8.3f} ms, least {least:8.3f} ms{load}", flush=True)
    for name, values in medians.items():
        middle = statistics.median(values)
        spread = f"median of {len(values)} runs, {min(values):.3f} to {max(values):.3f}"
        print(f"{name:5} {middle:8.3f} ms ({spread}){rewards[name]}")
    ratio = statistics.median(b / a for a, b in zip(medians["gibbs"], medians["jax"]))
    print(f"gibbs takes 1/{ratio:.1f} of JAX's time (median of the ratios round by round)", flush=True)
    return ratio


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=("cartpole", "car2d"), default="cartpole")
    parser.add_argument("--samples", type=int, help="8192 for cartpole, 2048 for car2d")
    parser.add_argument("--horizon", type=int, default=100, help="of cartpole")
    parser.add_argument("--levels", type=int, default=100, help="of car2d")
    parser.add_argument("--prng", default="threefry2x32", help="of JAX in car2d: threefry2x32, rbg or unsafe_rbg")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--backend", default="cpu", help="of gibbs: cpu, software, gpu or auto")
    parser.add_argument("--at-least", type=float, default=0.0, metavar="R", help="fail below this ratio")
    arguments = parser.parse_args()

    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "numpy"))
    print(f"machine: {machine()}")
    print(f"versions: {output(['rustc', '--version'])}; Python {platform.python_version()}, {versions}")
    gibbs = [build(f"peer_{arguments.task}"), "--backend", arguments.backend]
    jax = [sys.executable, str(HERE / f"jax_{arguments.task}.py")]
    if arguments.task == "cartpole":
        samples = arguments.samples or 8192
        sizes = ["--samples", str(samples), "--horizon", str(arguments.horizon)]
        title = f"update: K = {samples}, T = {arguments.horizon}"
        ratios = [compare(title, gibbs + sizes, jax + sizes, ["--updates", "1"], arguments.rounds)]
    else:
        samples = arguments.samples or 2048
        sizes = ["--samples", str(samples), "--levels", str(arguments.levels)]
        jax += ["--prng", arguments.prng]
        title = f"car: K = {samples}, {arguments.levels} levels, T = 50, JAX draws by {arguments.prng}"
        demo = ["--demo", str(ROOT / "examples" / "car2d" / "demo.csv")]
        ratios = []
        for name, told in (("without a demonstration", sizes), ("with a demonstration", sizes + demo)):
            ratios.append(compare(f"{title}, {name}", gibbs + told, jax + told, ["--runs", "1"], arguments.rounds))
    if min(ratios) < arguments.at_least:
        sys.exit(f"1/{min(ratios):.1f} is more than the 1/{arguments.at_least:g} asked for")


if __name__ == "__main__":
    main()
