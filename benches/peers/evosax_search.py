"""Policy search on the cart-pole swing-up of EvoJAX with evosax: jit, float32, on the CPU.

Same dynamics, rewards, ends, starts, perceptron, perturbations, weights and optimiser as examples/peer_search.rs. A whole
generation (ask, evaluate, tell) is one compiled function, with `lax.scan` over time and all episodes as one batch. XLA does
little of such a scan on more than one thread, so the rows are dealt out to as many virtual devices as there are threads.

    python evosax_search.py                   prints library,threads,rows,episodes,steps,hidden,median_ms_per_iteration,
                                              env_steps_per_second
    python evosax_search.py --check DIR       compares returns with what `peer_search --dump DIR` wrote
"""

import argparse
import math
import os
import statistics
import sys
import time
from pathlib import Path


def threads():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def parse():
    parser = argparse.ArgumentParser(description="Policy search with evosax.")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--episodes", type=int, default=4, help="of each row")
    parser.add_argument("--steps", type=int, default=1000, help="of each episode")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=50, help="that are timed, after a fifth as many that are not")
    parser.add_argument("--shards", type=int, help="virtual devices that share the rows [default: one a thread]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", metavar="DIR")
    told = parser.parse_args()
    told.shards = told.shards or math.gcd(told.rows, threads())
    return told


# The devices are made when JAX is first asked for them.
ARGUMENTS = parse()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={ARGUMENTS.shards}".strip()
)

import jax
import jax.numpy as jnp
import numpy as np
import optax
from evosax.algorithms import Open_ES
from evosax.core.fitness_shaping import standardize_fitness_shaping_fn
from jax import lax
from jax.sharding import AxisType, PartitionSpec

CART, POLE, LENGTH, GRAVITY, FRICTION, FORCE, TRACK = 0.5, 0.5, 0.6, 9.82, 0.1, 10.0, 2.4
MASS = CART + POLE
DT, SIGMA, RATE = 0.01, 0.1, 0.02
INPUTS = 5


def step(state, action):
    x, speed, angle, rate = state
    s, c = jnp.sin(angle), jnp.cos(angle)
    push = FORCE * action - FRICTION * speed
    swing = rate * rate * s
    slack = 4.0 * MASS - 3.0 * POLE * c * c
    pull = -2.0 * POLE * LENGTH * swing + 3.0 * POLE * GRAVITY * s * c + 4.0 * push
    turn = -3.0 * POLE * LENGTH * swing * c + 6.0 * MASS * GRAVITY * s + 6.0 * push * c
    return x + DT * speed, speed + DT * pull / slack, angle + DT * rate, rate + DT * turn / (LENGTH * slack)


def reward(state):
    x, _, angle, _ = state
    return 0.5 * (1.0 + jnp.cos(angle)) * jnp.cos(x * (jnp.pi / (2.0 * TRACK)))


def layers(rows, hidden):
    """Weights and biases of the rows [K, P], in the order of the crate's `Mlp`."""
    first, second = INPUTS * hidden, (INPUTS + 1) * hidden
    return (
        rows[:, :first].reshape(-1, hidden, INPUTS),
        rows[:, None, first:second],
        rows[:, second : second + hidden],
        rows[:, second + hidden :],
    )


def returns(rows, starts, steps, hidden):
    """Mean returns [K] of the rows [K, P], over episodes from `starts`: [E, 4] for all rows alike, or [K, E, 4]."""
    inner, inner_bias, outer, outer_bias = layers(rows, hidden)
    starts = jnp.broadcast_to(starts, (rows.shape[0], *starts.shape[-2:]))

    def act(state):
        x, speed, angle, rate = state
        seen = jnp.stack((x, speed, jnp.cos(angle), jnp.sin(angle), rate), -1)
        units = jnp.tanh(jnp.einsum("kei,khi->keh", seen, inner) + inner_bias)
        return jnp.clip(jnp.einsum("keh,kh->ke", units, outer) + outer_bias, -1.0, 1.0)

    def advance(carry, _):
        state, running, total = carry
        following = step(state, act(state))
        total = total + jnp.where(running, reward(following), 0.0)
        state = tuple(jnp.where(running, new, old) for new, old in zip(following, state))
        return (state, running & (jnp.abs(following[0]) <= TRACK), total), None

    state = tuple(starts[..., i] for i in range(4))
    first = (state, jnp.abs(state[0]) <= TRACK, jnp.zeros_like(state[0]))
    (_, _, total), _ = lax.scan(advance, first, None, length=steps)
    return total.mean(-1)


def measure(told):
    parameters = (INPUTS + 2) * told.hidden + 1
    strategy = Open_ES(
        population_size=told.rows,
        solution=jnp.zeros(parameters),
        optimizer=optax.adam(RATE),
        std_schedule=optax.constant_schedule(SIGMA),
        fitness_shaping_fn=standardize_fitness_shaping_fn,
    )
    mesh = jax.make_mesh((told.shards,), ("rows",), axis_types=(AxisType.Auto,))
    dealt = PartitionSpec("rows")

    def evaluate(population, starts):
        return returns(population, starts, told.steps, told.hidden)

    if told.shards > 1:
        evaluate = jax.shard_map(evaluate, mesh=mesh, in_specs=(dealt, PartitionSpec()), out_specs=dealt, check_vma=False)

    @jax.jit
    def generation(key, state):
        key, asks, draws, tells = jax.random.split(key, 4)
        population, state = strategy.ask(asks, state, strategy.default_params)
        hanging = jnp.array([0.0, 0.0, jnp.pi, 0.0])
        starts = hanging + 0.2 * jax.random.normal(draws, (told.episodes, 4))
        gained = evaluate(population, starts)
        state, _ = strategy.tell(tells, population, -gained, state, strategy.default_params)
        return key, state, gained.mean()

    key, initial = jax.random.split(jax.random.key(told.seed))
    # As Mlp::initial: N(0, 1/inputs), the last layer a tenth of that, no biases.
    deviation = np.zeros(parameters, np.float32)
    deviation[: INPUTS * told.hidden] = INPUTS**-0.5
    deviation[(INPUTS + 1) * told.hidden : -1] = 0.1 * told.hidden**-0.5
    state = strategy.init(key, deviation * jax.random.normal(initial, (parameters,)), strategy.default_params)
    times = []
    warm_up = -(-told.iterations // 5)
    for i in range(warm_up + told.iterations):
        clock = time.perf_counter()
        key, state, gained = jax.block_until_ready(generation(key, state))
        if i >= warm_up:
            times.append(1e3 * (time.perf_counter() - clock))
    return statistics.median(times), float(gained)


def check(told):
    theta, starts, theirs = (
        np.fromfile(Path(told.check) / f"{name}.f32", "<f4") for name in ("theta", "starts", "returns")
    )
    theta = theta.reshape(theirs.size, (INPUTS + 2) * told.hidden + 1)
    starts = starts.reshape(theirs.size, told.episodes, 4)
    run = jax.jit(lambda theta, starts: returns(theta, starts, told.steps, told.hidden))
    ours = np.asarray(run(theta, starts))
    error = float(np.max(np.abs(ours - theirs) / (1.0 + np.abs(ours))))
    spread = f"from {ours.min():.2f} to {ours.max():.2f}"
    print(f"largest difference of {theirs.size} returns over {told.steps} steps ({spread}): {error:.1e} relative")
    return error < 1e-3


def main():
    if ARGUMENTS.check:
        sys.exit(0 if check(ARGUMENTS) else "evosax's side and gibbs do not compute the same")
    median, gained = measure(ARGUMENTS)
    sizes = [ARGUMENTS.rows, ARGUMENTS.episodes, ARGUMENTS.steps]
    rate = 1e3 * sizes[0] * sizes[1] * sizes[2] / median
    print(f"mean return of the last rows: {gained:.2f}", file=sys.stderr)
    print(f"evosax,{threads()},{','.join(map(str, sizes))},{ARGUMENTS.hidden},{median:.4f},{rate:.0f}")


if __name__ == "__main__":
    main()
