"""The MPPI updates that are compared, in numbers: what every peer shares. The other half is examples/peer.

Each peer writes dynamics and costs in its own language; a check holds them against what gibbs computed."""

import numpy as np

DT = 0.02


class Cartpole:
    """The shipped cart-pole (semi-implicit Euler, speeds first), states (x, ẋ, θ, θ̇), pushed by a force.

    Neither hanging at rest nor upright at the start, so that every term of the dynamics and of the cost counts."""

    start = (0.3, -0.2, 2.0, 0.5)
    sigma, low, high, temperature = (5.0,), (-20.0,), (20.0,), 10.0

    cart, pole, length, gravity = 1.0, 0.1, 0.5, 9.81
    # w_position x² + w_speed ẋ² + w_angle (1 + cos θ) + w_rate θ̇², at the end once more times w_terminal; w_force F².
    w_position, w_speed, w_angle, w_rate, w_force, w_terminal = 1.0, 0.1, 10.0, 0.1, 0.001, 10.0


class Drive:
    """A robot on two wheels, r = L = 1, states (x, y, ψ): the comparison published with MPPI-Generic.

    One step is the midpoint rule: x⁺ = x + d cos(ψ + ½ a), y⁺ = y + d sin(ψ + ½ a), ψ⁺ = ψ + a, with d = ½ dt (ω_l + ω_r) and
    a = dt (ω_r − ω_l). Dynamics, limits, noise, temperature and map are as published; the weights of the cost are ours."""

    start = (0.0, 0.0, 0.0)
    sigma, low, high, temperature = (0.2, 0.2), (-0.35, -0.35), (0.5, 0.5), 1.0

    # w_goal ((x − 10)² + (y − 10)²) + w_heading ψ² + w_map map(x, y), with ψ wrapped to (−π, π].
    goal = (10.0, 10.0)
    w_goal, w_heading, w_map = 0.1, 0.1, 10.0

    # The map: 1 in the cells whose center lies in a disc (centers and radii in meters), 0 in the others, 1 beyond it.
    # Looked up bilinearly between the centers of cells; within half a cell of the border the outermost cell counts.
    cells, cell, outside = 110, 0.1, 1.0
    discs = ((8.0, 8.0, 0.4), (4.0, 6.0, 0.5), (6.0, 5.0, 0.3))


def costmap():
    """The values of the cells, [y, x]."""
    centres = (np.arange(Drive.cells) + 0.5) * Drive.cell
    x, y = centres[None, :], centres[:, None]
    return np.any([np.hypot(x - cx, y - cy) <= radius for cx, cy, radius in Drive.discs], axis=0).astype(np.float32)


TASKS = {"cartpole": Cartpole, "drive": Drive}
