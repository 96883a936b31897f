// The twin of src/scalar/math.rs: the same reductions, the same coefficients, in the same order. Change both or
// neither.
//
// Four things differ, because a shader compiler may apply transformations that a Rust compiler may not:
// - Sums may be reordered, and (x + 2^23) − 2^23 may be simplified to x. So floor and round are the builtins (exact
//   everywhere), and integers come from conversions where the twin reads them from a mantissa.
// - x + n a + n b may become x + n (a + b), with a + b rounded (Mesa's drivers do it), which defeats a multi-part
//   reduction. So where two parts meet, one multiplies an integer, which hides from the compiler that both are
//   multiples of n.
// - fma may be a product and a sum, each rounded. The parts that are subtracted from the argument have so few bits that
//   their products with a quadrant (of angles up to 10^4) or an exponent are exact either way.
// - Infinity and NaN may be assumed not to occur, and may not be written as constants. As results they are built from
//   their bits; as arguments nothing is guaranteed.

const GIBBS_SIGN: u32 = 0x80000000u;
const GIBBS_INFINITY: u32 = 0x7f800000u;
const GIBBS_NAN: u32 = 0x7fc00000u;

// Two results of one function.
struct Two {
    x: F,
    y: F,
}

// x with its sign flipped where `sign` has its top bit set.
fn gibbs_flip_sign(x: F, sign: U) -> F {
    return bitcast<F>(bitcast<U>(x) ^ (sign & U(GIBBS_SIGN)));
}

// (sin, cos): reduction to a quadrant with the three-part π/2 of Cody and Waite, then a polynomial on [−π/4, π/4].
fn gibbs_sin_cos(x: F) -> Two {
    let n = round(x * 0.63661975);
    let quadrant = I(n);
    var r = fma(n, F(-1.5703125), x);
    r = fma(F(quadrant * I(2029)), F(-2.3841858e-7), r); // 2029 / 2^22 = 4.837513e-4
    r = fma(n, F(-7.54979e-8), r);
    return gibbs_sin_cos_from(bitcast<U>(quadrant) << U(30u), r);
}

// (sin, cos) of r + q·π/2, for r in [−π/4, π/4] and the top two bits q of `quadrant`.
fn gibbs_sin_cos_from(quadrant: U, r: F) -> Two {
    let z = r * r;
    var s = fma(F(-1.9515296e-4), z, F(8.332161e-3));
    s = fma(s, z, F(-1.6666655e-1));
    s = fma(s * z, r, r);
    var k = fma(F(2.4433157e-5), z, F(-1.3887316e-3));
    k = fma(k, z, F(4.1666646e-2));
    k = fma(k * z, z, fma(z, F(-0.5), F(1.0)));
    // Odd quadrants swap sine and cosine. The upper bit is the sign of the sine; the cosine is negative where exactly
    // one of the two bits is set.
    let swapped = quadrant << U(1u);
    let odd = bitcast<I>(swapped) < I(0);
    let sin = gibbs_flip_sign(select(s, k, odd), quadrant);
    let cos = gibbs_flip_sign(select(k, s, odd), quadrant ^ swapped);
    return Two(sin, cos);
}

// 2^n e^r. A result below 2.4e-38 may be 0 and is never subnormal: arithmetic on subnormals is a hundred times slower
// on some processors.
fn gibbs_exp(argument: F) -> F {
    let x = max(F(-87.3), min(F(89.0), argument));
    let n = round(x * 1.442695);
    let exponent = I(n);
    var r = fma(F(exponent * I(355)), F(-1.953125e-3), x); // 355 / 512 = 0.6933594
    r = fma(n, F(2.1219444e-4), r);
    var p = fma(F(1.9875691e-4), r, F(1.3981999e-3));
    p = fma(p, r, F(8.333452e-3));
    p = fma(p, r, F(4.1665796e-2));
    p = fma(p, r, F(1.6666665e-1));
    p = fma(p, r, F(0.5));
    let y = fma(p, r * r, r) + 1.0;
    // 2^(n − 1) is finite for the largest n, too; for the smallest, −126, its bits are those of 0.
    let half = bitcast<F>((bitcast<U>(exponent) << U(23u)) + U(126u << 23u));
    return (y + y) * half;
}

// 2^n 2^r, exact where r is 0. Small results are as in gibbs_exp: 0, or not subnormal.
fn gibbs_exp2(argument: F) -> F {
    let x = max(F(-126.0), min(F(128.0), argument));
    let n = round(x);
    let r = x - n;
    var p = fma(F(1.5353362e-4), r, F(1.3398874e-3));
    p = fma(p, r, F(9.618437e-3));
    p = fma(p, r, F(5.5503325e-2));
    p = fma(p, r, F(2.4022648e-1));
    p = fma(p, r, F(6.931472e-1));
    let y = fma(p, r, F(1.0));
    let half = bitcast<F>((bitcast<U>(I(n)) << U(23u)) + U(126u << 23u));
    return (y + y) * half;
}

// (ln(1 + f) − f + f²/2)/f³, for 1 + f in [√½, √2).
fn gibbs_ln_tail(f: F) -> F {
    var p = fma(F(7.0376836e-2), f, F(-1.151461e-1));
    p = fma(p, f, F(1.1676999e-1));
    p = fma(p, f, F(-1.2420141e-1));
    p = fma(p, f, F(1.4249323e-1));
    p = fma(p, f, F(-1.6668058e-1));
    p = fma(p, f, F(2.0000715e-1));
    p = fma(p, f, F(-2.4999994e-1));
    return fma(p, f, F(3.3333331e-1));
}

// Splits a positive normal number into 2^n (1 + f), with 1 + f in [√½, √2): returns 2^23 n and f. The factor 2^23 is
// divided out of the coefficient that multiplies the first, exactly.
fn gibbs_split(x: F) -> Two {
    let bits = bitcast<U>(x);
    let exponent = (bits - U(0x3f3504f3u)) & U(0xff800000u);
    return Two(F(bitcast<I>(exponent)), bitcast<F>(bits - exponent) - 1.0);
}

// ln of a positive normal number: its exponent times ln 2, plus a polynomial on the mantissa in [√½, √2).
fn gibbs_ln_positive(x: F) -> F {
    let parts = gibbs_split(x);
    let f = parts.y;
    let z = f * f;
    let tail = fma(gibbs_ln_tail(f) * f, z, parts.x * (-2.1219444e-4 / 8388608.0));
    return fma(parts.x, F(0.6933594 / 8388608.0), f + fma(z, F(-0.5), tail));
}

// log2 of a positive normal number, by the same steps. The exponent is added last, so that powers of two have exact
// integer results.
fn gibbs_log2_positive(x: F) -> F {
    let parts = gibbs_split(x);
    let f = parts.y;
    let z = f * f;
    let tail = fma(gibbs_ln_tail(f) * f, z, z * -0.5);
    let mantissa = fma(tail, F(0.44269504), f * 0.44269504) + tail + f; // log2 e - 1
    return fma(parts.x, F(1.0 / 8388608.0), mantissa);
}

fn gibbs_ln(x: F) -> F {
    let small = x < F(1.1754944e-38);
    let scaled = select(x, x * 8388608.0, small);
    return gibbs_logarithm(x, gibbs_ln_positive(scaled) - select(F(0.0), F(15.942385), small)); // 23 ln 2
}

fn gibbs_log2(x: F) -> F {
    let small = x < F(1.1754944e-38);
    let scaled = select(x, x * 8388608.0, small);
    return gibbs_logarithm(x, gibbs_log2_positive(scaled) - select(F(0.0), F(23.0), small));
}

// Handles the special cases of a logarithm of any base above 1; y is the result for a positive finite x.
fn gibbs_logarithm(x: F, y: F) -> F {
    var bits = bitcast<U>(y);
    bits = select(bits, U(GIBBS_INFINITY | GIBBS_SIGN), x == F(0.0));
    // NaN and +∞ map to themselves; negative arguments yield NaN.
    bits = select(bitcast<U>(x), bits, x <= F(3.4028235e38));
    bits = select(bits, U(GIBBS_NAN), x < F(0.0));
    return bitcast<F>(bits);
}

// atan of the smaller over the larger magnitude, in one octant, then unfolded to the full circle.
fn gibbs_atan2(y: F, x: F) -> F {
    let ax = abs(x);
    let ay = abs(y);
    let small = min(ax, ay);
    let large = max(ay, ax);
    // Above tan(π/8): atan(a) = π/4 + atan((a − 1)/(a + 1)). One division serves both.
    let steep = large * 0.41421357 < small;
    let above = select(small, small - large, steep);
    let below = select(large, small + large, steep);
    let t = above / select(below, F(1.0), below == F(0.0));
    let z = t * t;
    var p = fma(F(8.053745e-2), z, F(-1.3877686e-1));
    p = fma(p, z, F(1.9977711e-1));
    p = fma(p, z, F(-3.333295e-1));
    var angle = fma(p * z, t, t) + select(F(0.0), F(0.7853982), steep);
    angle = select(angle, 1.5707964 - angle, ax < ay);
    angle = select(angle, 3.1415927 - angle, x < F(0.0));
    return gibbs_flip_sign(angle, bitcast<U>(y));
}

// x P(x²) / Q(x²) up to 8.6, beyond which tanh rounds to 1; the clamp keeps rounding from exceeding 1.
fn gibbs_tanh(x: F) -> F {
    let size = min(F(8.6), abs(x));
    let z = size * size;
    var p = fma(F(1.4146539e-8), z, F(2.1171469e-5));
    p = fma(p, z, F(3.5295214e-3));
    p = fma(p, z, F(1.3409553e-1));
    p = fma(p, z, F(1.0));
    var q = fma(F(8.097679e-7), z, F(3.3412734e-4));
    q = fma(q, z, F(2.6005922e-2));
    q = fma(q, z, F(4.6742877e-1));
    q = fma(q, z, F(1.0));
    return gibbs_flip_sign(min(F(1.0), size * p / q), bitcast<U>(x));
}

fn gibbs_asin(x: F) -> F {
    let other = sqrt((1.0 - x) * (x + 1.0));
    return bitcast<F>(select(U(GIBBS_NAN), bitcast<U>(gibbs_atan2(x, other)), abs(x) <= F(1.0)));
}

fn gibbs_acos(x: F) -> F {
    let other = sqrt((1.0 - x) * (x + 1.0));
    return bitcast<F>(select(U(GIBBS_NAN), bitcast<U>(gibbs_atan2(other, x)), abs(x) <= F(1.0)));
}
