// Root finding for the temperature: expands geometrically in ln λ until the root is bracketed, then refines the bracket
// by Chandrupatla's method. Twin: src/engine/cpu/root_finder.rs, which says more.

// ln 1e30: the bound on |ln λ|.
const EDGE = 69.07755f;
// The first sample is at ln(range of the costs) + GUESS.
const GUESS = -2.0f;
const STRIDE = 2.0f;
const ENOUGH = 1e-6f;
const TOLERANCE = 1e-6f;
const MAX_EVALUATIONS = 28u;

// A sample: ln λ, and the residual there, positive where the weights are more uniform than the target.
struct Sample {
    at: f32,
    residual: f32,
}

struct RootFinder {
    // ln λ of the next sample; of the solution once the search is over.
    next: f32,
    over: bool,
    // The last expansion step; 0 once the root is bracketed.
    stride: f32,
    evaluations: u32,
    latest: Sample,
    // The other end of the bracket, once there is one.
    bracket: Sample,
    // The sample that `latest` replaced.
    before: Sample,
}

// Starts a search for costs that span `range`.
fn root_finder_within(range: f32) -> RootFinder {
    var search = RootFinder();
    search.next = clamp(ln_of(range) + GUESS, -EDGE, EDGE);
    return search;
}

fn expanded(finder: RootFinder, stride: f32) -> RootFinder {
    var search = finder;
    search.stride = stride;
    search.next = clamp(search.latest.at + stride, -EDGE, EDGE);
    // The search ends at the bound.
    search.over = search.next == search.latest.at;
    return search;
}

// The search after the residual at `next` has been evaluated.
fn updated(finder: RootFinder, residual: f32) -> RootFinder {
    var search = finder;
    let sample = Sample(search.next, residual);
    let even = residual > 0.0;
    search.evaluations += 1u;
    if abs(residual) <= ENOUGH || search.evaluations == MAX_EVALUATIONS {
        search.over = true;
        return search;
    }
    if search.evaluations == 1u {
        search.latest = sample;
        search.bracket = sample;
        search.before = sample;
        return expanded(search, select(STRIDE, -STRIDE, even));
    }
    if even == (search.latest.residual > 0.0) {
        search.before = search.latest;
        search.latest = sample;
        if search.stride != 0.0 {
            return expanded(search, 2.0 * search.stride);
        }
        return refine(search);
    }
    // The root is now bracketed. If this ends the expansion phase, the previous sample becomes the other end.
    if search.stride == 0.0 {
        search.before = search.bracket;
    }
    search.stride = 0.0;
    search.bracket = search.latest;
    search.latest = sample;
    return refine(search);
}

// Refines the bracket: the next sample within it, or the better of its two ends if they agree to within the tolerance.
fn refine(finder: RootFinder) -> RootFinder {
    var search = finder;
    let a = search.latest;
    let b = search.bracket;
    let least = TOLERANCE / abs(b.at - a.at);
    let edge = min(least, 0.5);
    search.next = a.at + clamp(fraction_across(search), edge, 1.0 - edge) * (b.at - a.at);
    if least > 0.5 || search.next == a.at || search.next == b.at {
        search.next = select(b.at, a.at, abs(a.residual) < abs(b.residual));
        search.over = true;
    }
    return search;
}

// The position of the next sample, as a fraction of the bracket from `latest`.
fn fraction_across(search: RootFinder) -> f32 {
    let a = search.latest;
    let b = search.bracket;
    let c = search.before;
    // Interpolation needs a third, distinct sample.
    if c.at == b.at || c.residual == b.residual {
        return 0.5;
    }
    // Position and residual of `latest`, relative to the other two samples.
    let place = (a.at - b.at) / (c.at - b.at);
    let seen = (a.residual - b.residual) / (c.residual - b.residual);
    if seen * seen < place && (1.0 - seen) * (1.0 - seen) < 1.0 - place {
        return a.residual / (b.residual - a.residual) * c.residual / (b.residual - c.residual)
            + (c.at - a.at) / (b.at - a.at) * a.residual / (c.residual - a.residual) * b.residual / (c.residual - b.residual);
    }
    return 0.5;
}
