//! How every constant of generated WGSL is printed.

use std::fmt;

/// A finite number as a WGSL literal of type `f32` that every compiler parses to the same bits.
pub(crate) struct Literal(pub(crate) f32);

impl fmt::Display for Literal {
    /// Prints the shortest decimal, or a hexadecimal float where the decimal is ambiguous.
    ///
    /// Compilers parse a decimal in one of two ways: directly (naga), or as an `f64` that is then rounded (Tint, which
    /// refuses it if it is beyond the largest `f32`, as the shortest decimal of `f32::MAX` is).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = *self;
        debug_assert!(value.is_finite(), "WGSL has no literal for {value}");
        let decimal = format!("{value:?}");
        let as_double = decimal.parse::<f64>().unwrap_or(f64::INFINITY);
        let is_exact = as_double.abs() <= f64::from(f32::MAX) && (as_double as f32).to_bits() == value.to_bits();
        f.write_str(&if is_exact { decimal } else { hexadecimal(value) })?;
        f.write_str("f")
    }
}

/// A finite number as a hexadecimal float, which is exact by construction.
fn hexadecimal(value: f32) -> String {
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let bits = value.to_bits();
    // Six digits hold 24 bits, one more than the mantissa has.
    let fraction = format!("{:06x}", (bits & 0x7f_ffff) << 1);
    match bits >> 23 & 0xff {
        0 => format!("{sign}0x0.{fraction}p-126"),
        exponent => format!("{sign}0x1.{fraction}p{:+}", exponent as i32 - 127),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::Random;

    /// The numbers that naga parses from literals.
    #[cfg(feature = "gpu")]
    fn parsed(literals: &[String]) -> Vec<f32> {
        let source: String = literals.iter().enumerate().map(|(i, x)| format!("const c{i} = {x};\n")).collect();
        let module = match naga::front::wgsl::parse_str(&source) {
            Ok(module) => module,
            Err(error) => panic!("{}", error.emit_to_string(&source)),
        };
        let constants = module.constants.iter().map(|(_, constant)| &module.global_expressions[constant.init]);
        let numbers = constants.map(|constant| match constant {
            naga::Expression::Literal(naga::Literal::F32(value)) => *value,
            other => panic!("{other:?} is not a number"),
        });
        numbers.collect()
    }

    fn numbers() -> Vec<f32> {
        let third = 1.0 / 3.0;
        let smallest = f32::from_bits(1);
        let largest_subnormal = f32::from_bits(0x7f_ffff);
        let below_max = f32::from_bits(f32::MAX.to_bits() - 1);
        let edges =
            [f32::MAX, below_max, f32::MIN_POSITIVE, smallest, largest_subnormal, f32::EPSILON, third, 0.0, 1e16];
        let mut random = Random::new(3);
        let drawn = (0..1_000).map(|_| f32::from_bits(random.bits())).filter(|value| value.is_finite());
        edges.into_iter().flat_map(|value| [value, -value]).chain(drawn).collect()
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn literals_are_parsed_to_the_same_bits() {
        let bits = |numbers: &[f32]| numbers.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let numbers = numbers();
        let printed: Vec<String> = numbers.iter().map(|value| Literal(*value).to_string()).collect();
        assert_eq!(bits(&parsed(&printed)), bits(&numbers));
        let printed: Vec<String> = numbers.iter().map(|value| hexadecimal(*value) + "f").collect();
        assert_eq!(bits(&parsed(&printed)), bits(&numbers));
    }

    /// As a compiler does that parses decimals as `f64`, and refuses those that are beyond the largest `f32`.
    #[test]
    fn decimals_are_exact_as_doubles() {
        for value in numbers() {
            let printed = Literal(value).to_string();
            let number = printed.strip_suffix('f').expect("it is an f32");
            if !number.contains('x') {
                let double: f64 = number.parse().expect("it is a number");
                assert!(double.abs() <= f64::from(f32::MAX), "{printed}");
                assert_eq!((double as f32).to_bits(), value.to_bits(), "{printed}");
            }
        }
        assert_eq!(Literal(f32::MAX).to_string(), "0x1.fffffep+127f");
        assert_eq!(Literal(f32::MIN).to_string(), "-0x1.fffffep+127f");
        assert_eq!(Literal(-0.1).to_string(), "-0.1f");
    }
}
