"""The published 2-D car planned by model-based diffusion in JAX: jit, float32, on the CPU. A part of jax_peer.py.

The whole reverse process is one compiled function: `lax.scan` over the levels, `lax.scan` over time in each, and all
rollouts advance together as one batch. The car, its wall, the schedule and the weights are as published (C. Pan et al.,
*Model-based diffusion for trajectory optimization*, arXiv 2407.01573), and the same as in examples/peer.

Every run has a seed of its own. Without a demonstration the reward is flat where the car can get to: the method finds
nothing and its reward is 0.
"""

import functools
import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from worker import read

DT, HORIZON, START, GOAL, NEAR = 0.1, 50, (-0.5, 0.0, 1.5 * np.pi), (0.5, 0.0), 0.2
SPEED, TURN, RADIUS = 3.0, 2.0 * np.pi / 3.0, 0.3
DISCS = (
    *((-0.9, 0.6), (-0.6, 0.6), (-0.3, 0.6), (0.0, 0.6), (0.0, 0.3), (0.0, 0.0), (0.0, -0.3)),
    *((-0.9, -0.6), (-0.6, -0.6), (-0.3, -0.6), (0.0, -0.6)),
)
FIRST, LAST, TEMPERATURE = 1e-4, 1e-2, 0.1
FLAT = 0.5  # distances from the demonstration (in meters) beyond this are all the same


def derivative(state, control):
    turn, speed = control
    return SPEED * speed * jnp.sin(state[2]), SPEED * speed * jnp.cos(state[2]), TURN * turn


def step(state, control):
    """One step of RK4; one that would end inside a disc leaves the state as it was."""

    def along(slope, by):
        return tuple(value + by * rate for value, rate in zip(state, slope))

    k1 = derivative(state, control)
    k2 = derivative(along(k1, 0.5 * DT), control)
    k3 = derivative(along(k2, 0.5 * DT), control)
    k4 = derivative(along(k3, DT), control)
    moved = along(tuple(a + 2.0 * (b + c) + d for a, b, c, d in zip(k1, k2, k3, k4)), DT / 6.0)
    nearest = functools.reduce(jnp.minimum, ((moved[0] - x) ** 2 + (moved[1] - y) ** 2 for x, y in DISCS))
    inside = nearest < RADIUS**2
    return tuple(jnp.where(inside, old, new) for old, new in zip(state, moved))


def reward(x, y):
    square = (x - GOAL[0]) ** 2 + (y - GOAL[1]) ** 2
    return 1.0 - jnp.minimum(square, NEAR**2) / NEAR**2


def rollouts(controls, demo):
    """Mean rewards [K] of the control rows [T, 2, K], and their mean log-densities about the demonstration [T, 2]."""
    count = controls.shape[2]

    def advance(carry, now):
        state, sum_reward, sum_departure = carry
        control, place = now
        state = step(state, (control[0], control[1]))
        sum_reward = sum_reward + reward(state[0], state[1])
        if demo is not None:
            square = (state[0] - place[0]) ** 2 + (state[1] - place[1]) ** 2
            sum_departure = sum_departure + jnp.minimum(square, FLAT**2) / FLAT**2
        return (state, sum_reward, sum_departure), None

    first = (tuple(jnp.full(count, value, jnp.float32) for value in START), jnp.zeros(count), jnp.zeros(count))
    places = jnp.zeros((HORIZON, 2)) if demo is None else demo
    (_, sum_reward, sum_departure), _ = lax.scan(advance, first, (controls, places))
    return sum_reward / HORIZON, -sum_departure / HORIZON


def weigh(rewards, log_density, demo):
    def standardised(values):
        spread = values.std()
        return (values - values.mean()) / jnp.where(spread < 1e-4, 1.0, spread) / TEMPERATURE

    if demo is not None:
        # A demonstration is worth its own reward where a row is nearest to it. (As published, rewards are standardised before
        # this, too, which changes nothing.)
        worth = reward(demo[:, 0], demo[:, 1]).mean()
        rewards = jnp.maximum(rewards, log_density - log_density.max() + worth)
    return jax.nn.softmax(standardised(rewards))


def noise_levels(levels):
    """Standard deviations of the rows, from the noisiest level to the cleanest."""
    kept = np.cumprod(1.0 - np.linspace(FIRST, LAST, levels))
    return jnp.asarray(np.sqrt(1.0 / kept - 1.0)[::-1], jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def reverse(samples, levels, key, demo):
    """The whole reverse process; returns the plan [T, 2] and its mean reward."""

    def level(plan, now):
        sigma, key = now
        noise = sigma * jax.random.normal(key, (HORIZON, 2, samples), jnp.float32)
        controls = jnp.clip(plan[:, :, None] + noise, -1.0, 1.0)
        return controls @ weigh(*rollouts(controls, demo), demo), None

    keys = jax.random.split(key, levels)
    plan, _ = lax.scan(level, jnp.zeros((HORIZON, 2), jnp.float32), (noise_levels(levels), keys))
    rewards, _ = rollouts(plan[:, :, None], None)
    return plan, rewards[0]


def demonstration():
    path = Path(__file__).resolve().parents[2] / "examples" / "car2d" / "demo.csv"
    with open(path, encoding="utf-8") as file:
        if file.readline().strip() != "x,y":
            sys.exit(f"the first line of {path} must be `x,y`")
        demo = np.loadtxt(file, delimiter=",", dtype=np.float32, ndmin=2)
    if demo.shape != (HORIZON, 2) or not np.isfinite(demo).all():
        sys.exit(f"{path} must hold {HORIZON} rows of two finite numbers")
    return jnp.asarray(demo)


class Car2d:
    """What worker.py is told of this task."""

    def __init__(self, with_demo, prng):
        self.demo, self.prng = demonstration() if with_demo else None, prng

    def make(self, _task, samples, levels):
        seeds = itertools.count()

        def plan():
            key = jax.random.key(next(seeds), impl=self.prng)
            _, reached = jax.block_until_ready(reverse(samples, levels, key, self.demo))
            return float(reached)

        return plan

    def check(self, folder):
        rows, costs, weights, mean = (read(folder, name) for name in ("rows", "costs", "weights", "mean"))
        controls = jnp.asarray(rows.reshape(costs.size, HORIZON, 2).transpose(1, 2, 0))
        rewards, log_density = jax.jit(rollouts)(controls, self.demo)
        # A step that ends on the edge of a disc is taken or not as the rounding has it, so a few rows may go another way.
        astray = np.abs(np.asarray(rewards) + costs) > 1e-3
        moved = 0.5 * float(np.abs(np.asarray(weigh(rewards, log_density, self.demo)) - weights).sum())
        error = float(np.max(np.abs(np.asarray(rewards) + costs)[~astray]))
        # The mean is checked under the same weights, for the same reason.
        drift = float(np.max(np.abs(np.asarray(controls @ jnp.asarray(weights)).ravel() - mean)))
        right = astray.mean() <= 0.01 and moved < 0.02 and drift < 1e-4
        return ("ok: " if right else "WRONG: ") + (
            f"{astray.sum()} of {costs.size} rows go another way; the costs of the others differ by at most {error:.1e}, "
            f"{moved:.1e} of the weight stands elsewhere, the mean differs by at most {drift:.1e}"
        )
