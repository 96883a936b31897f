// Root finding for the temperature: expands geometrically in ln λ until the root is bracketed, then refines the bracket
// by Chandrupatla's method. Twin: src/engine/cpu/search.rs, which says more.

// ln 1e30: the bound on |ln λ|.
const EDGE = 69.07755f;
// The first sample is at ln(range of the costs) + GUESS.
const GUESS = -2.0f;
const STRIDE = 2.0f;
const ENOUGH = 1e-6f;
const TOLERANCE = 1e-6f;
const MOST_LOOKS = 28u;

// A sample: ln λ, and the residual there, positive where the weights are more uniform than the target.
struct Look {
    at: f32,
    excess: f32,
}

struct Search {
    // ln λ of the next sample; of the solution once the search is over.
    next: f32,
    over: bool,
    // The last expansion step; 0 once the root is bracketed.
    stride: f32,
    looks: u32,
    latest: Look,
    // The other end of the bracket, once there is one.
    across: Look,
    // The sample that `latest` replaced.
    before: Look,
}

// Starts a search for costs that span `range`.
fn search_among(range: f32) -> Search {
    var search = Search();
    search.next = clamp(ln_of(range) + GUESS, -EDGE, EDGE);
    return search;
}

fn walked(so_far: Search, stride: f32) -> Search {
    var search = so_far;
    search.stride = stride;
    search.next = clamp(search.latest.at + stride, -EDGE, EDGE);
    // The search ends at the bound.
    search.over = search.next == search.latest.at;
    return search;
}

// The search after the residual at `next` has been evaluated.
fn learned(so_far: Search, excess: f32) -> Search {
    var search = so_far;
    let look = Look(search.next, excess);
    let even = excess > 0.0;
    search.looks += 1u;
    if abs(excess) <= ENOUGH || search.looks == MOST_LOOKS {
        search.over = true;
        return search;
    }
    if search.looks == 1u {
        search.latest = look;
        search.across = look;
        search.before = look;
        return walked(search, select(STRIDE, -STRIDE, even));
    }
    if even == (search.latest.excess > 0.0) {
        search.before = search.latest;
        search.latest = look;
        if search.stride != 0.0 {
            return walked(search, 2.0 * search.stride);
        }
        return within(search);
    }
    // The root is now bracketed. If this ends the expansion phase, the previous sample becomes the other end.
    if search.stride == 0.0 {
        search.before = search.across;
    }
    search.stride = 0.0;
    search.across = search.latest;
    search.latest = look;
    return within(search);
}

// Refines the bracket: the next sample within it, or the better of its two ends if they agree to within the tolerance.
fn within(so_far: Search) -> Search {
    var search = so_far;
    let a = search.latest;
    let b = search.across;
    let least = TOLERANCE / abs(b.at - a.at);
    let edge = min(least, 0.5);
    search.next = a.at + clamp(share_across(search), edge, 1.0 - edge) * (b.at - a.at);
    if least > 0.5 || search.next == a.at || search.next == b.at {
        search.next = select(b.at, a.at, abs(a.excess) < abs(b.excess));
        search.over = true;
    }
    return search;
}

// The position of the next sample, as a fraction of the bracket from `latest`.
fn share_across(search: Search) -> f32 {
    let a = search.latest;
    let b = search.across;
    let c = search.before;
    // Interpolation needs a third, distinct sample.
    if c.at == b.at || c.excess == b.excess {
        return 0.5;
    }
    // Position and residual of `latest`, relative to the other two samples.
    let place = (a.at - b.at) / (c.at - b.at);
    let seen = (a.excess - b.excess) / (c.excess - b.excess);
    if seen * seen < place && (1.0 - seen) * (1.0 - seen) < 1.0 - place {
        return a.excess / (b.excess - a.excess) * c.excess / (b.excess - c.excess)
            + (c.at - a.at) / (b.at - a.at) * a.excess / (c.excess - a.excess) * b.excess / (c.excess - b.excess);
    }
    return 0.5;
}
