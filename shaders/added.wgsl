// Kahan's summation: a sum, and what it has rounded away so far.
fn added(sum: Two, value: F) -> Two {
    let y = value - sum.y;
    // Compilers may cancel (a + b) - a, and Mesa's does; not if they cannot see that `zero` is 0.
    let total = bitcast<F>(bitcast<U>(sum.x + y) ^ U(update.zero));
    return Two(total, (total - sum.x) - y);
}
