"""MPPI updates in Numba: parallel, fastmath, float32.

One parallel loop does everything but a last sum: a block of rollouts draws its noise, rolls out, weighs and averages while
all of it is in a core's cache. In a block the innermost loop runs over the rollouts, which LLVM then makes vector instructions
of where it can. Each rollout has a xoshiro128+ of its own, and normals come from them by Box and Muller: NumPy's generators are
not safe to share between threads, and Numba's own is slower.

LLVM cannot make vector instructions of a call to the C library's sin or log. `--maths library` calls them, as one writes it
(`numba`); `--maths polynomials` has polynomials in their place (`numba_simd`), as one writes when that is not fast enough."""

import argparse
import functools
import math

import numpy as np
from numba import njit, prange

import worker
from problems import DT, TASKS, Cartpole, Drive, costmap

LANES = 32  # rollouts in a block
f = np.float32  # a bare 0.5 is a double in Numba, and so is what it is multiplied with
ZERO, HALF, ONE, TWO = f(0), f(0.5), f(1), f(2)
TAU, PER_CIRCLE, QUARTER, PER_QUARTER, LN2 = f(2 * np.pi), f(0.5 / np.pi), f(0.5 * np.pi), f(2 / np.pi), f(np.log(2))
UNIT = f(2.0**-24)

# The test for a division by zero would keep a loop from becoming vector instructions.
compiled = functools.partial(njit, fastmath=True, error_model="numpy")
function = compiled()  # which LLVM inlines


# -- sine, cosine and logarithm ------------------------------------------------------------------------------------------------


@function
def library_sin_cos(x):
    return math.sin(x), math.cos(x)


@function
def library_log(x):
    return math.log(x)


S1, S2, S3 = f(-1.6666654611e-1), f(8.3321608736e-3), f(-1.9515295891e-4)  # Cephes, sinf
C1, C2, C3 = f(4.166664568298827e-2), f(-1.388731625493765e-3), f(2.443315711809948e-5)  # Cephes, cosf


@function
def polynomial_sin_cos(x):
    turns = np.floor(x * PER_QUARTER + HALF)
    quarter = np.int32(turns)
    r = x - turns * QUARTER
    z = r * r
    s = r + r * z * (S1 + z * (S2 + z * S3))
    c = ONE - HALF * z + z * z * (C1 + z * (C2 + z * C3))
    odd = (quarter & np.int32(1)) != 0
    sin, cos = (c if odd else s), (s if odd else c)
    sin = -sin if (quarter & np.int32(2)) != 0 else sin
    return sin, -cos if ((quarter + np.int32(1)) & np.int32(2)) != 0 else cos


L0, L1, L2 = f(3.3333331174e-1), f(-2.4999993993e-1), f(2.0000714765e-1)  # Cephes, logf
L3, L4, L5 = f(-1.6668057665e-1), f(1.4249322787e-1), f(-1.2420140846e-1)
L6, L7, L8 = f(1.1676998740e-1), f(-1.1514610310e-1), f(7.0376836292e-2)
MANTISSA, ROOT_HALF, BIAS = np.int32(0x007FFFFF), np.int32(0x3F3504F3), np.int32(0x3F800000)


@function
def polynomial_log(x):
    # x = 2^e m with m between √½ and √2.
    bits = np.float32(x).view(np.int32) + (BIAS - ROOT_HALF)
    exponent = f((bits >> np.int32(23)) - np.int32(127))
    m = np.int32((bits & MANTISSA) + ROOT_HALF).view(np.float32) - ONE
    z = m * m
    tail = L0 + m * (L1 + m * (L2 + m * (L3 + m * (L4 + m * (L5 + m * (L6 + m * (L7 + m * L8)))))))
    return exponent * LN2 + (m - HALF * z + m * z * tail)


# -- a block of rollouts -------------------------------------------------------------------------------------------------------


def drawing(sin_cos, log):
    @function
    def draw(state, nominal, sigma, low, high, controls):
        """Perturbed and clipped controls [coordinates, LANES]; the coordinates are T × M, and one more if that is odd."""
        for i in range(0, controls.shape[0], 2):
            for k in range(LANES):
                first, second = ZERO, ZERO
                a, b, c, d = state[0, k], state[1, k], state[2, k], state[3, k]
                for half in range(2):
                    word = np.uint32(a + d)
                    shifted = np.uint32(b << np.uint32(9))
                    c ^= a
                    d ^= b
                    b ^= c
                    a ^= d
                    c ^= shifted
                    d = np.uint32((d << np.uint32(11)) | (d >> np.uint32(21)))
                    uniform = (f(np.int32(word >> np.uint32(8))) + HALF) * UNIT
                    first, second = second, uniform
                state[0, k], state[1, k], state[2, k], state[3, k] = a, b, c, d
                radius = np.sqrt(-TWO * log(first))
                sin, cos = sin_cos(TAU * second)
                controls[i, k] = min(max(nominal[i] + sigma[i] * radius * cos, low[i]), high[i])
                controls[i + 1, k] = min(max(nominal[i + 1] + sigma[i + 1] * radius * sin, low[i + 1]), high[i + 1])

    return draw


def cartpole_rollouts(sin_cos):
    p, dt = Cartpole, f(DT)
    cart, pole, inertia, weight = f(p.cart), f(p.pole), f(p.pole * p.length), f(p.pole * p.gravity)
    whole, per_length = f((p.cart + p.pole) * p.gravity), f(1.0 / p.length)
    w_position, w_speed, w_angle = f(p.w_position), f(p.w_speed), f(p.w_angle)
    w_rate, w_force, w_terminal = f(p.w_rate), f(p.w_force), f(p.w_terminal)

    @function
    def state_cost(x, speed, angle, rate):
        _, cos = sin_cos(angle)
        return w_position * x * x + w_speed * speed * speed + w_angle * (ONE + cos) + w_rate * rate * rate

    @function
    def roll(start, horizon, controls, _map, costs):
        x, speed = np.full(LANES, start[0], np.float32), np.full(LANES, start[1], np.float32)
        angle, rate = np.full(LANES, start[2], np.float32), np.full(LANES, start[3], np.float32)
        costs[:] = ZERO
        for t in range(horizon):
            for k in range(LANES):
                force = controls[t, k]
                s, c = sin_cos(angle[k])
                per_mass = ONE / (cart + pole * s * s)
                push = force + inertia * rate[k] * rate[k] * s
                speed[k] += dt * (push + weight * s * c) * per_mass
                rate[k] -= dt * (push * c + whole * s) * per_mass * per_length
                x[k] += dt * speed[k]
                angle[k] += dt * rate[k]
                costs[k] += state_cost(x[k], speed[k], angle[k], rate[k]) + w_force * force * force
        for k in range(LANES):
            costs[k] += w_terminal * state_cost(x[k], speed[k], angle[k], rate[k])

    return roll


def drive_rollouts(sin_cos):
    p, dt, half_dt = Drive, f(DT), f(0.5 * DT)
    goal_x, goal_y, w_goal, w_heading, w_map = f(p.goal[0]), f(p.goal[1]), f(p.w_goal), f(p.w_heading), f(p.w_map)
    per_cell, last, most, outside = f(1.0 / p.cell), f(p.cells - 1), f(p.cells - 0.5), f(p.outside)
    width, corner, one, up = np.int32(p.cells), np.int32(p.cells - 2), np.uint32(1), np.uint32(p.cells)

    @function
    def roll(start, horizon, controls, values, costs):
        x, y = np.full(LANES, start[0], np.float32), np.full(LANES, start[1], np.float32)
        heading = np.full(LANES, start[2], np.float32)
        fx, fy, at = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.int32)
        corners = np.empty((4, LANES), np.float32)
        costs[:] = ZERO
        for t in range(horizon):
            for k in range(LANES):
                left, right = controls[2 * t, k], controls[2 * t + 1, k]
                distance, turn = half_dt * (left + right), dt * (right - left)
                s, c = sin_cos(heading[k] + HALF * turn)
                x[k] += distance * c
                y[k] += distance * s
                heading[k] += turn
                off = heading[k] - TAU * np.floor(heading[k] * PER_CIRCLE + HALF)
                dx, dy = x[k] - goal_x, y[k] - goal_y
                costs[k] += w_goal * (dx * dx + dy * dy) + w_heading * off * off
                gx, gy = min(max(x[k] * per_cell - HALF, ZERO), last), min(max(y[k] * per_cell - HALF, ZERO), last)
                ix, iy = min(np.int32(gx), corner), min(np.int32(gy), corner)
                fx[k], fy[k], at[k] = gx - f(ix), gy - f(iy), iy * width + ix
            # On its own: LLVM cannot tell that what it reads is not what the loops around it write.
            for k in range(LANES):
                i = np.uint32(at[k])  # which spares the test of an index from the end
                corners[0, k], corners[1, k] = values[i], values[i + one]
                corners[2, k], corners[3, k] = values[i + up], values[i + up + one]
            for k in range(LANES):
                gx, gy = x[k] * per_cell - HALF, y[k] * per_cell - HALF
                inside = (gx >= -HALF) & (gx <= most) & (gy >= -HALF) & (gy <= most)
                low = corners[0, k] + fx[k] * (corners[1, k] - corners[0, k])
                high = corners[2, k] + fx[k] * (corners[3, k] - corners[2, k])
                costs[k] += w_map * (low + fy[k] * (high - low) if inside else outside)

    return roll


@function
def average(costs, controls, per_temperature, mean):
    """The weighted mean of a block under weights that are 1 for its least cost; returns that cost and the sum of weights."""
    least = costs.min()
    weights = np.exp((least - costs) * per_temperature)
    for i in range(controls.shape[0]):
        total = ZERO
        for k in range(LANES):
            total += weights[k] * controls[i, k]
        mean[i] = total
    return least, weights.sum()


@function
def merge(least, total, means, per_temperature, mean):
    scale = np.exp((least.min() - least) * per_temperature)
    scale /= (scale * total).sum()
    mean[:] = ZERO
    for block in range(means.shape[0]):
        for i in range(mean.size):
            mean[i] += scale[block] * means[block, i]


# -- the update ----------------------------------------------------------------------------------------------------------------


@functools.cache
def kernels(task, maths):
    sin_cos, log = {
        "library": (library_sin_cos, library_log),
        "polynomials": (polynomial_sin_cos, polynomial_log),
    }[maths]
    draw = drawing(sin_cos, log)
    roll = {"cartpole": cartpole_rollouts, "drive": drive_rollouts}[task](sin_cos)

    @compiled(parallel=True)
    def update(start, horizon, random, nominal, sigma, low, high, values, per_temperature, controls, costs, parts):
        blocks = costs.shape[0]
        least, total = np.empty(blocks, np.float32), np.empty(blocks, np.float32)
        for b in prange(blocks):
            draw(random[b], nominal, sigma, low, high, controls[b])
            roll(start, horizon, controls[b], values, costs[b])
            least[b], total[b] = average(costs[b], controls[b], per_temperature, parts[b])
        merge(least, total, parts, per_temperature, nominal)

    @compiled(parallel=True)
    def recompute(start, horizon, values, given, per_temperature, controls, costs, parts, mean):
        """The costs of the rows, and their mean under the costs given."""
        blocks = costs.shape[0]
        least, total = np.empty(blocks, np.float32), np.empty(blocks, np.float32)
        for b in prange(blocks):
            roll(start, horizon, controls[b], values, costs[b])
            least[b], total[b] = average(given[b], controls[b], per_temperature, parts[b])
        merge(least, total, parts, per_temperature, mean)

    return update, recompute


def blocks_of(samples):
    if samples % LANES:
        raise ValueError(f"samples must be a multiple of {LANES}")
    return samples // LANES


def make(task, samples, horizon, maths):
    problem, blocks = TASKS[task], blocks_of(samples)
    count = horizon * len(problem.sigma)
    even = count + count % 2
    sigma, low, high = (np.resize(np.asarray(v, np.float32), even) for v in (problem.sigma, problem.low, problem.high))
    random = np.random.default_rng(0).integers(1, 2**32, (blocks, 4, LANES), np.uint32)
    controls, costs = np.empty((blocks, even, LANES), np.float32), np.empty((blocks, LANES), np.float32)
    parts, nominal = np.empty((blocks, even), np.float32), np.zeros(even, np.float32)
    start, values, per_temperature = np.asarray(problem.start, np.float32), costmap().ravel(), f(1.0 / problem.temperature)
    run = kernels(task, maths)[0]

    def update():
        run(start, horizon, random, nominal, sigma, low, high, values, per_temperature, controls, costs, parts)
        return float(costs.mean())

    return update


def recompute(task, start, rows, costs, maths):
    (samples, horizon, width), blocks = rows.shape, blocks_of(rows.shape[0])
    controls = np.ascontiguousarray(rows.reshape(blocks, LANES, horizon * width).transpose(0, 2, 1))
    ours, given = np.empty((blocks, LANES), np.float32), costs.reshape(blocks, LANES)
    parts, mean = np.empty((blocks, horizon * width), np.float32), np.empty(horizon * width, np.float32)
    start, per_temperature = np.asarray(start, np.float32), f(1.0 / TASKS[task].temperature)
    run = kernels(task, maths)[1]
    run(start, horizon, costmap().ravel(), given, per_temperature, controls, ours, parts, mean)
    return ours.ravel(), mean.reshape(horizon, width)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maths", choices=("library", "polynomials"), default="library")
    maths = parser.parse_args().maths
    library = "numba" if maths == "library" else "numba_simd"
    make_one, check_one = (functools.partial(call, maths=maths) for call in (make, recompute))
    worker.serve(library, ["numba", "llvmlite"], make_one, check_one)


if __name__ == "__main__":
    main()
