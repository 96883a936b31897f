"""MPPI updates in JAX: jit, float32, on the CPU.

`lax.scan` runs over time; all rollouts advance together as one batch, which is how XLA makes the most of a CPU. Normals come
from JAX's default generator (threefry); `--prng unsafe_rbg` takes its fastest."""

import argparse
import functools
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jax_car2d
import worker
from problems import DT, TASKS, Cartpole, Drive, costmap


def cartpole_step(state, control):
    x, speed, angle, rate = state
    (force,) = control
    p = Cartpole
    s, c = jnp.sin(angle), jnp.cos(angle)
    per_mass = 1.0 / (p.cart + p.pole * s * s)
    push = force + p.pole * p.length * rate * rate * s
    speed = speed + DT * (push + p.pole * p.gravity * s * c) * per_mass
    rate = rate - DT * (push * c + (p.cart + p.pole) * p.gravity * s) * per_mass / p.length
    return x + DT * speed, speed, angle + DT * rate, rate


def cartpole_state_cost(state):
    x, speed, angle, rate = state
    p = Cartpole
    fallen = p.w_angle * (1.0 + jnp.cos(angle))
    return p.w_position * x * x + p.w_speed * speed * speed + fallen + p.w_rate * rate * rate


def cartpole_cost(state, control):
    return cartpole_state_cost(state) + Cartpole.w_force * control[0] * control[0]


def cartpole_terminal(state):
    return Cartpole.w_terminal * cartpole_state_cost(state)


def drive_step(state, control):
    x, y, heading = state
    left, right = control
    distance, turn = 0.5 * DT * (left + right), DT * (right - left)
    middle = heading + 0.5 * turn
    return x + distance * jnp.cos(middle), y + distance * jnp.sin(middle), heading + turn


def look_up(x, y):
    """The costmap, bilinearly."""
    values = jnp.asarray(costmap().ravel())
    p, last = Drive, Drive.cells - 1
    gx, gy = x * (1.0 / p.cell) - 0.5, y * (1.0 / p.cell) - 0.5
    inside = (gx >= -0.5) & (gx <= last + 0.5) & (gy >= -0.5) & (gy <= last + 0.5)
    gx, gy = jnp.clip(gx, 0.0, last), jnp.clip(gy, 0.0, last)
    ix, iy = jnp.minimum(gx.astype(jnp.int32), last - 1), jnp.minimum(gy.astype(jnp.int32), last - 1)
    fx, fy = gx - ix, gy - iy
    at = iy * p.cells + ix
    # The indices are in bounds: XLA is told, so that it need not see to that again.
    v00, v10, v01, v11 = (
        values.at[at + offset].get(mode="promise_in_bounds") for offset in (0, 1, p.cells, p.cells + 1)
    )
    low, high = v00 + fx * (v10 - v00), v01 + fx * (v11 - v01)
    return jnp.where(inside, low + fy * (high - low), p.outside)


def drive_cost(state, control):
    x, y, heading = state
    p, circle = Drive, 2.0 * np.pi
    off = heading - circle * jnp.round(heading * (1.0 / circle))
    square = (x - p.goal[0]) ** 2 + (y - p.goal[1]) ** 2
    return p.w_goal * square + p.w_heading * off * off + p.w_map * look_up(x, y)


MODELS = {
    "cartpole": (cartpole_step, cartpole_cost, cartpole_terminal),
    "drive": (drive_step, drive_cost, lambda state: 0.0),
}


def rollout_costs(task, start, controls):
    """Costs [K] of control sequences [T, M, K]."""
    step, cost, terminal = MODELS[task]
    samples = controls.shape[2]

    def advance(carry, control):
        state, total = carry
        state = step(state, tuple(control))
        return (state, total + cost(state, tuple(control))), None

    first = (tuple(jnp.full(samples, value, jnp.float32) for value in start), jnp.zeros(samples))
    (last, total), _ = lax.scan(advance, first, controls)
    return total + terminal(last)


def average(task, controls, costs):
    return controls @ jax.nn.softmax(-costs / TASKS[task].temperature)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def improve(task, samples, nominal, key):
    problem = TASKS[task]
    sigma, low, high = (jnp.float32(v)[:, None] for v in (problem.sigma, problem.low, problem.high))
    key, fresh = jax.random.split(key)
    noise = sigma * jax.random.normal(fresh, (*nominal.shape, samples), jnp.float32)
    controls = jnp.clip(nominal[:, :, None] + noise, low, high)
    costs = rollout_costs(task, problem.start, controls)
    return average(task, controls, costs), key, costs.mean()


def make(task, samples, horizon, prng):
    nominal = jnp.zeros((horizon, len(TASKS[task].sigma)), jnp.float32)
    key = jax.random.key(0, impl=prng)

    def update():
        nonlocal nominal, key
        nominal, key, mean = jax.block_until_ready(improve(task, samples, nominal, key))
        return float(mean)

    return update


def recompute(task, start, rows, costs):
    controls = jnp.asarray(rows.transpose(1, 2, 0))
    ours = jax.jit(functools.partial(rollout_costs, task, start))(controls)
    return np.asarray(ours), np.asarray(average(task, controls, jnp.asarray(costs)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prng", default="threefry2x32", help="threefry2x32 (JAX's own choice), rbg or unsafe_rbg")
    prng = parser.parse_args().prng
    library = "jax" if prng == "threefry2x32" else "jax_rbg"
    other = {task: jax_car2d.Car2d(demo, prng) for task, demo in (("car2d", False), ("car2d-demo", True))}
    worker.serve(library, ["jax", "jaxlib"], functools.partial(make, prng=prng), recompute, other)


if __name__ == "__main__":
    main()
