//! [`Rows`]: how many rows an invocation computes side by side, and the code that depends on it.

use std::fmt::Write;

use super::source::list;

const SCALAR: &str = include_str!("../../../shaders/scalar.wgsl");
const VEC2: &str = include_str!("../../../shaders/vec2.wgsl");
const VEC4: &str = include_str!("../../../shaders/vec4.wgsl");
const MATH: &str = include_str!("../../../shaders/generated/math.wgsl");
const MUL_HIGH: &str = include_str!("../../../shaders/propose/mul_high.wgsl");
const MUL_WIDE: &str = include_str!("../../../shaders/propose/mul_wide.wgsl");
const MUL_WIDE_INT64: &str = include_str!("../../../shaders/propose/mul_wide_int64.wgsl");
const PHILOX: &str = include_str!("../../../shaders/generated/philox.wgsl");
const NORMAL: &str = include_str!("../../../shaders/generated/normal.wgsl");

/// The rows that an invocation computes side by side, in vectors. A pair is a row and the one with the opposite
/// perturbation, whose normals are drawn once for both; or two episodes of one row of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    One,
    Pair,
    Four,
    TwoPairs,
}

impl Rows {
    /// One row, or four for a software adapter.
    pub(super) fn one_or_four(four: bool) -> Self {
        if four { Self::Four } else { Self::One }
    }

    /// How many they are.
    pub(super) fn count(self) -> usize {
        self.components().len()
    }

    /// Pairs of opposite rows instead: one row becomes a pair, four become two pairs.
    pub(super) fn in_pairs(self) -> Self {
        match self {
            Self::One | Self::Pair => Self::Pair,
            Self::Four | Self::TwoPairs => Self::TwoPairs,
        }
    }

    /// The definitions in terms of which kernels and models are written, with the polynomials.
    pub(super) fn definitions(self) -> String {
        let width = match self {
            Self::One => SCALAR,
            Self::Pair => VEC2,
            Self::Four | Self::TwoPairs => VEC4,
        };
        [width, MATH].join("\n")
    }

    /// The component of a vector of rows that belongs to each of them.
    fn components(self) -> &'static [&'static str] {
        match self {
            Self::One => &[""],
            Self::Pair => &[".x", ".y"],
            Self::Four | Self::TwoPairs => &[".x", ".y", ".z", ".w"],
        }
    }

    /// A vector of an alias, from an expression for each row in terms of its component.
    pub(super) fn each(self, alias: &str, value: impl Fn(&str) -> String) -> String {
        let values: Vec<String> = self.components().iter().map(|component| value(component)).collect();
        format!("{alias}({})", values.join(", "))
    }

    /// A statement for each row in terms of its component.
    pub(super) fn statements(self, statement: impl Fn(&str) -> String) -> String {
        self.components().iter().map(|component| format!("    {}\n", statement(component))).collect()
    }

    /// The functions that draw normals, for a device with or without 64-bit integers.
    pub(super) fn noise(self, int64: bool) -> String {
        // `L` is defined here, because a device without 64-bit integers rejects the type.
        let product = match (int64, self) {
            (false, _) => MUL_WIDE.to_owned(),
            (true, Self::One | Self::Pair) => format!("alias L = u64;\n{MUL_WIDE_INT64}"),
            (true, Self::Four) => format!("alias L = vec4<u64>;\n{MUL_WIDE_INT64}"),
            (true, Self::TwoPairs) => format!("alias L = vec2<u64>;\n{MUL_WIDE_INT64}"),
        };
        let functions = [MUL_HIGH, &product, PHILOX, NORMAL].join("\n");
        match self {
            Self::One | Self::Four => functions,
            Self::Pair => of_pairs(&functions, "", ""),
            Self::TwoPairs => of_pairs(&functions, "vec2<", ">"),
        }
    }

    /// The functions that draw the rows `k`: `signs_of(k)` are the signs of their draws, `row_of_draws(k)` the Philox
    /// row, and `spread_over(z)` is a normal of each row.
    pub(super) fn draws(self) -> &'static str {
        match self {
            Self::One | Self::Four => {
                "fn signs_of(k: U) -> F {\n    \
                     return select(F(1.0), F(-1.0), B(ANTITHETIC) & ((k & U(1u)) == U(1u)));\n}\n\
                 fn row_of_draws(k: U) -> PhiloxRow {\n    \
                     return row_of(select(k, k >> U(1u), ANTITHETIC), noise_chain());\n}\n\
                 fn spread_over(z: F) -> F {\n    return z;\n}\n"
            }
            Self::Pair => {
                "fn signs_of(k: U) -> F {\n    return F(1.0, -1.0);\n}\n\
                 fn row_of_draws(k: U) -> PhiloxRow {\n    return row_of(k.x >> 1u, noise_chain());\n}\n\
                 fn spread_over(z: f32) -> F {\n    return F(z, z);\n}\n"
            }
            Self::TwoPairs => {
                "fn signs_of(k: U) -> F {\n    return F(1.0, -1.0, 1.0, -1.0);\n}\n\
                 fn row_of_draws(k: U) -> PhiloxRow {\n    \
                     return row_of(vec2<u32>(k.x, k.z) >> vec2<u32>(1u), noise_chain());\n}\n\
                 fn spread_over(z: vec2<f32>) -> F {\n    return z.xxyy;\n}\n"
            }
        }
    }

    /// The look-ups of planes, each by the function of `shaders/score/field.wgsl` for one row.
    pub(super) fn look_ups(self) -> String {
        let sample = self.each("F", |of| format!("field_sample_at(field, x{of}, y{of})"));
        format!(
            "fn field_sample(field: u32, x: F, y: F) -> F {{\n    return {sample};\n}}\n\
             fn field_gradient(field: u32, x: F, y: F) -> Two {{\n{}    return {};\n}}\n",
            self.for_rows("slopes", |of| format!("field_gradient_at(field, x{of}, y{of})")),
            self.gathered("Two", "slopes", &["x", "y"])
        )
    }

    /// The look-ups of tables, of volumes and of channels, each by the functions of
    /// `shaders/score/field_channels.wgsl` for one row.
    pub(super) fn channel_look_ups(self) -> String {
        let mut code = String::from("struct Three {\n    x: F,\n    y: F,\n    z: F,\n}\n");
        for (kind, name, coordinates) in
            [("Table", "table", &["x"][..]), ("Plane", "plane", &["x", "y"]), ("Volume", "volume", &["x", "y", "z"])]
        {
            let rows = self.components().len();
            let members: String = (0..rows).map(|i| format!("    row{i}: {kind}Cell,\n")).collect();
            let parameters = list(coordinates.len(), |i| format!("{}: F", coordinates[i]));
            let cells = self.each(&format!("{kind}Cells"), |of| {
                format!("{name}_cell_at(field, {})", list(coordinates.len(), |i| format!("{}{of}", coordinates[i])))
            });
            let values = list(rows, |i| format!("{name}_value_at(cell.row{i}, channel)"));
            let _ = write!(
                code,
                "struct {kind}Cells {{\n{members}}}\n\
                 fn {name}_cell(field: u32, {parameters}) -> {kind}Cells {{\n    return {cells};\n}}\n\
                 fn {name}_value(cell: {kind}Cells, channel: u32) -> F {{\n    return F({values});\n}}\n"
            );
            let slopes = |function: &str| -> String {
                (0..rows).map(|i| format!("    let slopes{i} = {function}(cell.row{i}, channel);\n")).collect()
            };
            let (vector, slopes, gathered) = match kind {
                "Table" => ("F", slopes("table_slope_at"), format!("F({})", list(rows, |i| format!("slopes{i}")))),
                "Plane" => ("Two", slopes("plane_slopes_at"), self.gathered("Two", "slopes", coordinates)),
                _ => ("Three", slopes("volume_slopes_at"), self.gathered("Three", "slopes", coordinates)),
            };
            let _ = write!(
                code,
                "fn {name}_slopes(cell: {kind}Cells, channel: u32) -> {vector} {{\n{slopes}    return {gathered};\n}}\n"
            );
        }
        code
    }

    /// Statements that define `name0`, `name1` and so on, one for each row.
    fn for_rows(self, name: &str, value: impl Fn(&str) -> String) -> String {
        let rows = self.components().iter().enumerate();
        rows.map(|(i, component)| format!("    let {name}{i} = {};\n", value(component))).collect()
    }

    /// A struct of vectors of rows, from a vector for each row.
    fn gathered(self, kind: &str, name: &str, components: &[&str]) -> String {
        let rows = self.components().len();
        let vector = |component: &str| format!("F({})", list(rows, |i| format!("{name}{i}.{component}")));
        format!("{kind}({})", list(components.len(), |i| vector(components[i])))
    }
}

/// Functions that draw normals for pairs of rows, from those for rows: the aliases for vectors of rows become vectors
/// of pairs, and the polynomials that they call are defined once more.
fn of_pairs(functions: &str, open: &str, close: &str) -> String {
    let defined: Vec<&str> = MATH
        .lines()
        .filter_map(|line| line.strip_prefix("fn ").or_else(|| line.strip_prefix("struct ")))
        .map(|rest| rest.split(|c: char| !is_of_word(c)).next().unwrap_or_default())
        .collect();
    let text = [MATH, functions].join("\n");
    let mut code = String::with_capacity(text.len() * 5 / 4);
    for piece in text.split_inclusive(|c| !is_of_word(c)) {
        let word = piece.trim_end_matches(|c| !is_of_word(c));
        let scalar = match word {
            "F" => Some("f32"),
            "U" => Some("u32"),
            "I" => Some("i32"),
            "B" => Some("bool"),
            _ => None,
        };
        match scalar {
            Some(scalar) => code.extend([open, scalar, close]),
            None if defined.contains(&word) => code.extend([word, "_of_pairs"]),
            None => code.push_str(word),
        }
        code.push_str(&piece[word.len()..]);
    }
    code
}

/// Whether a character is part of a name.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
