"""MPPI updates by pytorch_mppi itself, on the CPU: its controller, its noise, its limits, under `torch.inference_mode`.

What it does differently: it adds λ Σ_t U_tᵀ Σ⁻¹ ε_t to the cost of a row (α = 0 where the others have α = 1), which is
nothing while the plan U is zero and little work after that. Its warm start, a shift of the plan, is left out. `--compile`
calls its `compile()`, which hands dynamics and cost to torch.compile (that needs a C++ compiler)."""

import argparse
import functools
import os

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no processes of its own that stay

import numpy as np
import torch
from pytorch_mppi import MPPI

import worker
from problems import DT, TASKS, Cartpole, Drive, costmap

MAP = torch.from_numpy(costmap().ravel())


# Each takes and returns a batch, [K, states] and [K, controls]. A batch of states is stacked as columns, so that each state
# lies contiguous in memory: that is faster than rows.


def cartpole_step(state, control, _t):
    x, speed, angle, rate = state.unbind(1)
    force, p = control[:, 0], Cartpole
    s, c = torch.sin(angle), torch.cos(angle)
    per_mass = 1.0 / (p.cart + p.pole * s * s)
    push = force + p.pole * p.length * rate * rate * s
    speed = speed + DT * (push + p.pole * p.gravity * s * c) * per_mass
    rate = rate - DT * (push * c + (p.cart + p.pole) * p.gravity * s) * per_mass / p.length
    return torch.stack((x + DT * speed, speed, angle + DT * rate, rate)).T


def cartpole_state_cost(state):
    x, speed, angle, rate = state.unbind(1)
    p = Cartpole
    fallen = p.w_angle * (1.0 + torch.cos(angle))
    return p.w_position * x * x + p.w_speed * speed * speed + fallen + p.w_rate * rate * rate


def cartpole_cost(horizon, state, control, t):
    cost, force = cartpole_state_cost(state), control[:, 0]
    # Were this a `terminal_state_cost`, the controller would store every state of every rollout.
    scale = 1.0 + Cartpole.w_terminal if t == horizon - 1 else 1.0
    return scale * cost + Cartpole.w_force * force * force


def drive_step(state, control, _t):
    x, y, heading = state.unbind(1)
    left, right = control.unbind(1)
    distance, turn = 0.5 * DT * (left + right), DT * (right - left)
    middle = heading + 0.5 * turn
    return torch.stack((x + distance * torch.cos(middle), y + distance * torch.sin(middle), heading + turn)).T


def look_up(x, y):
    """The costmap, bilinearly."""
    p, last = Drive, Drive.cells - 1
    gx, gy = x * (1.0 / p.cell) - 0.5, y * (1.0 / p.cell) - 0.5
    inside = (gx >= -0.5) & (gx <= last + 0.5) & (gy >= -0.5) & (gy <= last + 0.5)
    gx, gy = gx.clamp(0.0, last), gy.clamp(0.0, last)
    ix, iy = gx.int().clamp(max=last - 1), gy.int().clamp(max=last - 1)
    fx, fy = gx - ix, gy - iy
    at = iy * p.cells + ix
    v00, v10, v01, v11 = (MAP.index_select(0, at + offset) for offset in (0, 1, p.cells, p.cells + 1))
    low, high = v00 + fx * (v10 - v00), v01 + fx * (v11 - v01)
    return torch.where(inside, low + fy * (high - low), p.outside)


def drive_cost(_horizon, state, _control, _t):
    x, y, heading = state.unbind(1)
    p, circle = Drive, 2.0 * np.pi
    off = heading - circle * torch.round(heading * (1.0 / circle))
    square = (x - p.goal[0]) ** 2 + (y - p.goal[1]) ** 2
    return p.w_goal * square + p.w_heading * off * off + p.w_map * look_up(x, y)


MODELS = {"cartpole": (cartpole_step, cartpole_cost), "drive": (drive_step, drive_cost)}


def controller(task, samples, horizon, compiled):
    problem = TASKS[task]
    step, cost = MODELS[task]
    mppi = MPPI(
        step,
        functools.partial(cost, horizon),
        len(problem.start),
        torch.diag(torch.tensor(problem.sigma).square()),
        num_samples=samples,
        horizon=horizon,
        lambda_=problem.temperature,
        u_min=torch.tensor(problem.low),
        u_max=torch.tensor(problem.high),
        U_init=torch.zeros(horizon, len(problem.sigma)),
        step_dependent_dynamics=True,
    )
    if compiled:
        # Each size anew: else the sizes become variables of the kernels, and there is a limit to how many a function may have.
        torch.compiler.reset()
        mppi.compile()
    return mppi


def make(task, samples, horizon, compiled):
    mppi, start = controller(task, samples, horizon, compiled), torch.tensor(TASKS[task].start)

    @torch.inference_mode()
    def update():
        mppi.command(start, shift_nominal_trajectory=False)
        return float(mppi.cost_total.mean())

    return update


@torch.inference_mode()
def recompute(task, start, rows, costs, compiled):
    """By the controller's own methods, which have no public names."""
    mppi = controller(task, *rows.shape[:2], compiled)
    mppi.state, rows = torch.from_numpy(np.asarray(start, np.float32)), torch.from_numpy(rows)
    ours, _, _ = mppi._compute_rollout_costs(rows)
    mean = torch.einsum("k,ktn->tn", mppi._compute_weighting(torch.from_numpy(costs)), rows)
    return ours.numpy(), mean.numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true")
    compiled = parser.parse_args().compile
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    make_one, check_one = (functools.partial(call, compiled=compiled) for call in (make, recompute))
    library = "pytorch_mppi_compiled" if compiled else "pytorch_mppi"
    worker.serve(library, ["pytorch_mppi", "torch"], make_one, check_one)


if __name__ == "__main__":
    main()
