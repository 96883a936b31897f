"""gibbs against others on this machine: the same updates, a check that all compute the same, and times in turns.

Each library is a process of its own that lives to the end and answers requests. While one is measured all others are stopped.
Run it in an environment with requirements.txt installed; see README.md."""

import argparse
import csv
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from worker import read

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

MPPI, CAR = ("cartpole", "drive"), ("car2d", "car2d-demo")
SIZES = {
    "cartpole": (128, 512, 1024, 2048, 4096, 8192, 16384),
    "drive": (128, 512, 1024, 2048, 4096, 8192, 16384),
    "car2d": (2048,),
    "car2d-demo": (2048,),
}
# What a peer is run with, and whether it knows the car.
PEERS = {
    "pytorch_mppi": (["pytorch_peer.py"], False),
    "pytorch_mppi_compiled": (["pytorch_peer.py", "--compile"], False),
    "jax": (["jax_peer.py"], True),
    "jax_rbg": (["jax_peer.py", "--prng", "unsafe_rbg"], True),
    "numba": (["numba_peer.py"], False),
    "numba_simd": (["numba_peer.py", "--maths", "polynomials"], False),
    "numpy": (["numpy_peer.py"], False),
}
USUAL = ("pytorch_mppi", "pytorch_mppi_compiled", "jax", "numba", "numba_simd", "numpy")
# A ratio at fewer samples than these is not held against --at-least: there, calls count for more than work.
LEAST_SAMPLES = 1024


class Worker:
    """A process that answers a line with a line."""

    def __init__(self, name, command, cpus, environment):
        self.name = name
        pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, preexec_fn=pin, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, *words):
        try:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline().strip()
        except BrokenPipeError:
            answer = ""
        if not answer:
            sys.exit(f"{self.name} gave no answer to `{' '.join(map(str, words))}`")
        return answer

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def time(self, task, samples, horizon, updates):
        """Median and least milliseconds of an update, and the mean reward where there is one."""
        self.go_on()
        answer = self.ask("time", task, samples, horizon, updates)
        self.stop()
        return tuple(map(float, answer.split(",")[5:]))

    def end(self):
        self.go_on()
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def build():
    command = ["cargo", "build", "--release", "--quiet", "--example", "peer"]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit(f"{' '.join(command)} failed")
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / "peer"


def machine(threads):
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {threads} of {there} threads, {platform.system()} {platform.release()}"


def start(arguments):
    """The workers by name, gibbs first."""
    threads, cpus, environment = arguments.threads, None, dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    if hasattr(os, "sched_getaffinity"):
        # XLA takes as many threads as it may run on, so all are held to the same few.
        cpus = sorted(os.sched_getaffinity(0))[:threads]
        if len(cpus) < threads:
            sys.exit(f"there are {len(cpus)} threads here, not {threads}")
    for library in ("RAYON", "OMP", "MKL", "OPENBLAS", "NUMBA"):
        environment[f"{library}_NUM_THREADS"] = str(threads)
    example, workers = build(), {}
    for backend in arguments.backend or ["cpu"]:
        command = [str(example), "--serve", "--backend", backend]
        workers[f"gibbs_{backend}"] = Worker(f"gibbs_{backend}", command, cpus, environment)
    for name in arguments.peers:
        (file, *options), _ = PEERS[name]
        workers[name] = Worker(name, [sys.executable, str(HERE / file), *options], cpus, environment)
    return workers


def check(workers, first, task):
    """Every worker must compute what the first does, from the dumped rows of one update."""
    kinds = [task, "drive-amid"] if task == "drive" else [task]
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            workers[first].ask("dump", kind, 2048, 100, folder)
            for name, worker in workers.items():
                if name == first:
                    continue
                ours = name.startswith("gibbs_")
                answer = beside(worker, workers[first], kind) if ours else worker.ask("check", task, folder)
                print(f"{kind}, {name}: {answer}", flush=True)
                if not answer.startswith("ok: "):
                    sys.exit(f"{name} and {first} do not compute the same")


def beside(worker, first, kind):
    """Another backend of gibbs draws the same rows, so its own update is held against that of the first.

    Of the car, a process of two levels is: over a hundred, what starts as rounding ends as another plan."""
    costs, rows = [], []
    for one in (first, worker):
        with tempfile.TemporaryDirectory() as folder:
            one.ask("dump", kind, 2048, 100 if kind not in CAR else 2, folder)
            rows.append(read(folder, "rows"))
            costs.append(read(folder, "costs"))
    drift = float(np.max(np.abs(rows[1] - rows[0])))
    error = np.abs(costs[1] - costs[0]) / (1.0 + np.abs(costs[0]))
    # Of the car, a step that ends on the edge of a disc is taken or not as the rounding has it.
    right = drift < 1e-3 and np.mean(error > 1e-3) <= 0.01
    most = np.quantile(error, 0.99)
    report = f"rows differ by at most {drift:.1e}, all but a hundredth of the costs by at most {most:.1e} relative"
    return ("ok: " if right else "WRONG: ") + report


def measure(workers, task, samples, arguments, raw):
    """Medians of the rounds by name."""
    horizon, medians = arguments.horizon, {name: [] for name in workers}
    # Enough updates for a round to last as long as it should. This also compiles what must be.
    updates = {}
    for name, worker in workers.items():
        median = worker.time(task, samples, horizon, 3)[0]
        updates[name] = round(min(max(1e3 * arguments.seconds / median, 5), 1000))
    rewards = {name: [] for name in workers}
    for turn in range(arguments.rounds):
        for name, worker in workers.items():
            median, least, *reward = worker.time(task, samples, horizon, updates[name])
            medians[name].append(median)
            rewards[name] += reward
            load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
            raw.append((name, arguments.threads, task, samples, horizon, turn + 1, median, least, load))
    print(f"\n{task}: K = {samples}, T = {horizon}, load {load}")
    first = next(iter(workers))
    for name, values in medians.items():
        middle, ratio = statistics.median(values), ratio_of(medians, first, name)
        reached = f", mean reward {statistics.mean(rewards[name]):.3f}" if rewards[name] else ""
        print(f"{name:22}{middle:9.3f} ms ({min(values):.3f} to {max(values):.3f}), × {ratio:.1f}{reached}", flush=True)
    return medians


def ratio_of(medians, first, name):
    """How many times as long as the first: the median of the ratios round by round."""
    return statistics.median(b / a for a, b in zip(medians[first], medians[name]))


def markdown(results, first):
    """A table for each task: medians, their range, and the ratio to gibbs."""
    lines = []
    for task, sizes in results.items():
        names = list(next(iter(sizes.values())))
        lines += [f"`{task}`, ms an update:", "", f"| K | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for samples, medians in sizes.items():
            cells = []
            for name, values in medians.items():
                ratio = "" if name == first else f", × {ratio_of(medians, first, name):.1f}"
                cells.append(f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g}){ratio}")
            lines.append(f"| {samples:,} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def plot(results, path, title):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullLocator

    legend = 2.6  # inches
    size = 4.6 * len(results) + legend, 4.6
    figure, panels = pyplot.subplots(1, len(results), figsize=size, squeeze=False, sharey=True)
    names = list(dict.fromkeys(name for sizes in results.values() for medians in sizes.values() for name in medians))
    colours = dict(zip(names, pyplot.get_cmap("tab10").colors))
    for panel, (task, sizes) in zip(panels[0], results.items()):
        for name in names:
            points = [(k, statistics.median(medians[name])) for k, medians in sizes.items() if name in medians]
            if points:
                bold = 2.4 if name.startswith("gibbs") else 1.4
                panel.plot(*zip(*points), marker="o", markersize=4, linewidth=bold, color=colours[name], label=name)
        panel.set(xscale="log", yscale="log", xlabel="rollouts an update", title=task)
        panel.set_xticks(list(sizes), [f"{k:,}" for k in sizes], rotation=45)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.grid(True, which="major", alpha=0.4)
        panel.grid(True, which="minor", axis="y", alpha=0.15)
    panels[0][0].set_ylabel("ms an update (median)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center right", frameon=False)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1 - legend / size[0], 1))
    figure.savefig(path, dpi=120)


def floor(text):
    name, _, ratio = text.partition("=")
    if name not in PEERS:
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(PEERS)}")
    return name, float(ratio)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=SIZES, default=MPPI)
    parser.add_argument("--sizes", nargs="+", type=int, metavar="K", help="rollouts (128 to 16384; of the car, 2048)")
    parser.add_argument("--horizon", type=int, default=100, metavar="T", help="time steps; of the car, levels")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=USUAL)
    parser.add_argument("--backend", action="append", help="of gibbs: cpu (default), software, gpu or auto; may repeat")
    parser.add_argument("--threads", type=int, help="of everybody (default: all)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.4, help="how long one measurement lasts")
    parser.add_argument("--csv", metavar="FILE", help="write every measurement")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables")
    parser.add_argument("--plot", metavar="FILE", help="draw time by rollouts")
    at_least = f"fail if a peer takes less than R times as long as gibbs at {LEAST_SAMPLES} rollouts or more"
    parser.add_argument("--at-least", nargs="+", type=floor, default=[], metavar="PEER=R", help=at_least)
    arguments = parser.parse_args()
    if arguments.threads is None:
        arguments.threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for name, _ in arguments.at_least:
        if name not in arguments.peers:
            parser.error(f"--at-least speaks of {name}, which is not among --peers")

    workers = start(arguments)
    try:
        run(arguments, workers)
    finally:
        for worker in workers.values():
            worker.end()


def run(arguments, workers):
    first = next(iter(workers))
    here = machine(arguments.threads)
    print(f"machine: {here}")
    versions = [subprocess.run(["rustc", "--version"], text=True, stdout=subprocess.PIPE).stdout.strip()]
    versions += [worker.ask("versions") for name, worker in workers.items() if not name.startswith("gibbs_")]
    print(f"versions: Python {platform.python_version()}; {'; '.join(dict.fromkeys(versions))}")

    def able(task):
        return {name: worker for name, worker in workers.items() if task in MPPI or name not in PEERS or PEERS[name][1]}

    for task in arguments.tasks:
        check(able(task), first, task)
    for worker in workers.values():
        worker.stop()
    results, raw = {}, []
    for task in arguments.tasks:
        sizes = arguments.sizes or SIZES[task]
        results[task] = {samples: measure(able(task), task, samples, arguments, raw) for samples in sizes}

    tables = markdown(results, first)
    print(f"\n{tables}")
    if arguments.markdown:
        Path(arguments.markdown).write_text(tables)
    if arguments.csv:
        with open(arguments.csv, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow("library threads task K T round median_ms min_ms load".split())
            writer.writerows(raw)
    if arguments.plot:
        plot(results, arguments.plot, here)
    missed = [
        f"{name} takes {ratio:.1f} times as long as {first} in {task} at K = {samples}, not {wanted:g}"
        for name, wanted in arguments.at_least
        for task, sizes in results.items()
        for samples, medians in sizes.items()
        if samples >= LEAST_SAMPLES and name in medians and (ratio := ratio_of(medians, first, name)) < wanted
    ]
    if missed:
        sys.exit("\n".join(missed))


if __name__ == "__main__":
    main()
