"""MPPI updates in NumPy as one writes them: float32, a loop over time, all rollouts as one array."""

import numpy as np

import worker
from problems import DT, TASKS, Cartpole, Drive, costmap

MAP = costmap().ravel()


def cartpole_step(state, control):
    x, speed, angle, rate = state
    (force,) = control
    p = Cartpole
    s, c = np.sin(angle), np.cos(angle)
    per_mass = 1.0 / (p.cart + p.pole * s * s)
    push = force + p.pole * p.length * rate * rate * s
    speed = speed + DT * (push + p.pole * p.gravity * s * c) * per_mass
    rate = rate - DT * (push * c + (p.cart + p.pole) * p.gravity * s) * per_mass / p.length
    return x + DT * speed, speed, angle + DT * rate, rate


def cartpole_state_cost(state):
    x, speed, angle, rate = state
    p = Cartpole
    fallen = p.w_angle * (1.0 + np.cos(angle))
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
    return x + distance * np.cos(middle), y + distance * np.sin(middle), heading + turn


def look_up(x, y):
    """The costmap, bilinearly."""
    p, last = Drive, np.float32(Drive.cells - 1)
    gx, gy = x / np.float32(p.cell) - 0.5, y / np.float32(p.cell) - 0.5
    inside = (gx >= -0.5) & (gx <= last + 0.5) & (gy >= -0.5) & (gy <= last + 0.5)
    gx, gy = np.clip(gx, 0.0, last), np.clip(gy, 0.0, last)
    ix, iy = np.minimum(gx.astype(np.int32), p.cells - 2), np.minimum(gy.astype(np.int32), p.cells - 2)
    fx, fy = gx - ix.astype(np.float32), gy - iy.astype(np.float32)
    at = iy * p.cells + ix
    v00, v10, v01, v11 = (MAP[at + offset] for offset in (0, 1, p.cells, p.cells + 1))
    low, high = v00 + fx * (v10 - v00), v01 + fx * (v11 - v01)
    return np.where(inside, low + fy * (high - low), np.float32(p.outside))


def drive_cost(state, control):
    x, y, heading = state
    p, circle = Drive, 2.0 * np.pi
    off = heading - circle * np.rint(heading * (1.0 / circle))
    square = (x - p.goal[0]) ** 2 + (y - p.goal[1]) ** 2
    return p.w_goal * square + p.w_heading * off * off + p.w_map * look_up(x, y)


MODELS = {
    "cartpole": (cartpole_step, cartpole_cost, cartpole_terminal),
    "drive": (drive_step, drive_cost, lambda state: 0.0),
}


def rollout_costs(task, start, controls):
    """Costs [K] of control sequences [T, M, K]."""
    step, cost, terminal = MODELS[task]
    state = tuple(np.full(controls.shape[2], value, np.float32) for value in start)
    total = np.zeros(controls.shape[2], np.float32)
    for control in controls:
        state = step(state, control)
        total += cost(state, control)
    return total + terminal(state)


def average(task, controls, costs):
    weights = np.exp((costs.min() - costs) / TASKS[task].temperature)
    return controls @ (weights / weights.sum())


def make(task, samples, horizon):
    problem = TASKS[task]
    sigma, low, high = (np.float32(v)[:, None] for v in (problem.sigma, problem.low, problem.high))
    random = np.random.default_rng(0)
    nominal = np.zeros((horizon, len(sigma)), np.float32)

    def update():
        nonlocal nominal
        noise = random.standard_normal((horizon, len(sigma), samples), dtype=np.float32)
        controls = np.clip(nominal[:, :, None] + sigma * noise, low, high)
        costs = rollout_costs(task, problem.start, controls)
        nominal = average(task, controls, costs)
        return float(costs.mean())

    return update


def recompute(task, start, rows, costs):
    controls = np.ascontiguousarray(rows.transpose(1, 2, 0))
    return rollout_costs(task, start, controls), average(task, controls, costs)


if __name__ == "__main__":
    worker.serve("numpy", ["numpy"], make, recompute)
