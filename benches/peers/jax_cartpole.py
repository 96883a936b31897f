"""One full MPPI update of the shipped cart-pole in JAX: jit, float32, on the CPU.

Same dynamics (semi-implicit Euler, speeds first), cost, noise, limits and temperature as examples/peer_cartpole.rs.
`lax.scan` runs over time; all rollouts advance together as one batch, which is how XLA makes the most of a CPU.

    python jax_cartpole.py                    prints library,threads,K,T,median_ms,min_ms
    python jax_cartpole.py --check DIR        compares costs and mean with what `peer_cartpole --dump DIR` wrote
"""

import argparse
import os
import statistics
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

CART, POLE, LENGTH, GRAVITY = 1.0, 0.1, 0.5, 9.81
W_POSITION, W_SPEED, W_ANGLE, W_RATE, W_FORCE, W_TERMINAL = 1.0, 0.1, 10.0, 0.1, 0.001, 10.0
DT, SIGMA, LIMIT, TEMPERATURE = 0.02, 5.0, 20.0, 10.0
STATE = (0.3, -0.2, 2.0, 0.5)


def step(state, force):
    x, speed, angle, rate = state
    s, c = jnp.sin(angle), jnp.cos(angle)
    per_mass = 1.0 / (CART + POLE * s * s)
    push = force + POLE * LENGTH * rate * rate * s
    acceleration = (push + POLE * GRAVITY * s * c) * per_mass
    swing = -(push * c + (CART + POLE) * GRAVITY * s) * per_mass / LENGTH
    speed = speed + DT * acceleration
    rate = rate + DT * swing
    return x + DT * speed, speed, angle + DT * rate, rate


def state_cost(state):
    x, speed, angle, rate = state
    fallen = W_ANGLE * (1.0 + jnp.cos(angle))
    return W_POSITION * x * x + W_SPEED * speed * speed + fallen + W_RATE * rate * rate


def rollout_costs(start, controls):
    """Costs [K] of the control rows [T, K]."""
    samples = controls.shape[1]

    def advance(carry, force):
        state, cost = carry
        state = step(state, force)
        return (state, cost + state_cost(state) + W_FORCE * force * force), None

    first = (tuple(jnp.full(samples, value) for value in start), jnp.zeros(samples))
    (last, cost), _ = lax.scan(advance, first, controls)
    return cost + W_TERMINAL * state_cost(last)


def weigh(costs):
    return jax.nn.softmax(-costs / TEMPERATURE)


def update(samples, start, nominal, key):
    """Draws, scores, weighs and averages; returns the new nominal [T], the least cost, the mean cost and the ESS."""
    noise = SIGMA * jax.random.normal(key, (nominal.shape[0], samples), jnp.float32)
    controls = jnp.clip(nominal[:, None] + noise, -LIMIT, LIMIT)
    costs = rollout_costs(start, controls)
    weights = weigh(costs)
    return controls @ weights, costs.min(), costs.mean(), 1.0 / jnp.sum(weights * weights)


def measure(samples, horizon, updates):
    start = tuple(jnp.float32(value) for value in STATE)
    improve = jax.jit(update, static_argnums=0)
    split = jax.jit(lambda key: tuple(jax.random.split(key)))
    nominal, key = jnp.zeros(horizon, jnp.float32), jax.random.key(0)
    times = []
    for i in range(20 + updates):
        key, fresh = jax.block_until_ready(split(key))  # not timed: the new key is JAX's affair, not the update's
        clock = time.perf_counter()
        nominal, *_ = jax.block_until_ready(improve(samples, start, nominal, fresh))
        if i >= 20:
            times.append(1e3 * (time.perf_counter() - clock))
    return statistics.median(times), min(times)


def check(folder):
    rows, costs, mean = (
        np.fromfile(os.path.join(folder, name + ".f32"), "<f4") for name in ("rows", "costs", "mean")
    )
    rows = rows.reshape(costs.size, mean.size)
    start = tuple(jnp.float32(value) for value in STATE)
    ours = np.asarray(jax.jit(rollout_costs)(start, jnp.asarray(rows.T)))
    error = float(np.max(np.abs(ours - costs) / (1.0 + np.abs(ours))))
    # The mean is checked under the same costs: λ is small beside them, so their rounding would show in the weights.
    ours = np.asarray(jnp.asarray(rows.T) @ weigh(jnp.asarray(costs)))
    drift = float(np.max(np.abs(ours - mean)))
    print(f"largest difference of {costs.size} costs: {error:.1e} relative; of the mean: {drift:.1e} N")
    return error < 1e-3 and drift < 1e-3


def main():
    parser = argparse.ArgumentParser(description="One MPPI update of the cart-pole in JAX.")
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--horizon", type=int, default=100)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--check", metavar="DIR")
    arguments = parser.parse_args()
    if arguments.check:
        sys.exit(0 if check(arguments.check) else "JAX and gibbs do not compute the same")
    median, least = measure(arguments.samples, arguments.horizon, arguments.updates)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"jax,{threads},{arguments.samples},{arguments.horizon},{median:.4f},{least:.4f}")


if __name__ == "__main__":
    main()
