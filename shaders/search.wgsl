// Where a temperature is looked for that makes the weights as even as they should be: a walk on its logarithm until the root is
// crossed, then Chandrupatla's method. Twin: src/engine/cpu/search.rs, which says more.

// ln 1e30: where λ is looked for, wherever it may be.
const EDGE = 69.07755f;
// The first look, as a logarithm of a part of the costs' range.
const GUESS = -2.0f;
const STRIDE = 2.0f;
const ENOUGH = 1e-6f;
const TOLERANCE = 1e-6f;
const MOST_LOOKS = 28u;

// A look at one temperature: its logarithm, and how much more even the weights are under it than they should be.
struct Look {
    at: f32,
    excess: f32,
}

struct Search {
    // The logarithm of the temperature to look at; of the one that was looked for, once the search is over.
    next: f32,
    over: bool,
    // How far the last stride went; 0 once the root has been crossed.
    stride: f32,
    looks: u32,
    latest: Look,
    // On the other side of the root, once it has been crossed.
    across: Look,
    // The look that the latest one replaced.
    before: Look,
}

// Among costs that are so far apart, at most.
fn search_among(range: f32) -> Search {
    var search = Search();
    search.next = clamp(ln_of(range) + GUESS, -EDGE, EDGE);
    return search;
}

fn walked(so_far: Search, stride: f32) -> Search {
    var search = so_far;
    search.stride = stride;
    search.next = clamp(search.latest.at + stride, -EDGE, EDGE);
    // There is nothing beyond the edge.
    search.over = search.next == search.latest.at;
    return search;
}

// A search that has learnt what the excess is at the temperature that it looked at.
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
    // Crossed. If for the first time, then on foot, and the look before the last is where it was.
    if search.stride == 0.0 {
        search.before = search.across;
    }
    search.stride = 0.0;
    search.across = search.latest;
    search.latest = look;
    return within(search);
}

// The next look between the two that the root lies between, or the better of them if they are as good as one.
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

// How far the root is from the latest look, as a share of the way across.
fn share_across(search: Search) -> f32 {
    let a = search.latest;
    let b = search.across;
    let c = search.before;
    // Without a third look there is nothing to interpolate.
    if c.at == b.at || c.excess == b.excess {
        return 0.5;
    }
    // Where it is and what it saw, between the others.
    let place = (a.at - b.at) / (c.at - b.at);
    let seen = (a.excess - b.excess) / (c.excess - b.excess);
    if seen * seen < place && (1.0 - seen) * (1.0 - seen) < 1.0 - place {
        return a.excess / (b.excess - a.excess) * c.excess / (b.excess - c.excess)
            + (c.at - a.at) / (b.at - a.at) * a.excess / (c.excess - a.excess) * b.excess / (c.excess - b.excess);
    }
    return 0.5;
}
