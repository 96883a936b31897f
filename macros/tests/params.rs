//! What `#[derive(ModelParams)]` refuses, and where it puts what it reads. What it computes is tested in gibbs.

use gibbs_macros::expanded_model_params as expanded;

/// Compares tokens: they are printed with different spaces.
fn contains(expansion: &str, expected: &str) -> bool {
    let tokens = |text: &str| text.split_whitespace().collect::<String>();
    tokens(expansion).contains(&tokens(expected))
}

#[test]
fn other_items_are_refused() {
    let refused = [
        expanded! { struct Goal<R>(R, R); },
        expanded! { struct Goal<R>; },
        expanded! { struct Goal<R> {} },
        expanded! { enum Goal<R> { At { x: R } } },
        expanded! { union Goal<R> { x: R } },
    ];
    for expansion in refused {
        let sentence = "compile_error! { \"`ModelParams` can be derived for a struct with named fields, such as \
                        `struct Goal<R> { x: R, y: R }`\" }";
        assert!(contains(expansion, sentence), "{expansion}");
    }
}

#[test]
fn a_struct_has_one_type_of_numbers() {
    let refused = [
        expanded! { struct Goal { x: f32 } },
        expanded! { struct Goal<const N: usize> { x: [f32; N] } },
        expanded! { struct Goal<R, S> { x: R, y: S } },
        expanded! { struct Goal<'a, R> { x: &'a R } },
    ];
    for expansion in refused {
        assert!(expansion.contains("a struct of parameters has one type parameter"), "{expansion}");
    }
}

#[test]
fn bounds_constants_and_conditions_are_kept_and_defaults_are_not() {
    let expansion = expanded! {
        #[derive(Clone)]
        pub(crate) struct Way<const N: usize, Number: Copy + Into<Option<Number>> = f32> where [Number; N]: Clone {
            #[doc = "Where to go."]
            pub(crate) points: Vec<[Number; N], Global>,
            r#type: Number,
        }
    };
    for part in [
        "impl<Number: Copy + Into<Option<Number>> + ::gibbs::Real, const N: usize,>
            ::gibbs::ModelParams<Number> for Way<N, Number,> where [Number; N]: Clone {",
        "const NAME: &'static str = \"Way\";",
        "points: <Vec<[Number; N], Global> as ::gibbs::ModelParams<Number>>::read(at, first),",
        "\".type\"",
        "impl<const N: usize,> ::core::convert::From<Way<N, f32,> > for ::std::vec::Vec<f32> {",
    ] {
        assert!(contains(expansion, part), "no {part} in {expansion}");
    }
    assert!(!expansion.contains("to_array"), "its length would depend on a constant: {expansion}");
}
