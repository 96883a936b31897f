//! The macros of `gibbs`, which exports and documents them: `#[gibbs::model]` and `#[derive(ModelParams)]`.
//!
//! They read token trees as the compiler passes them, without a parser of Rust, so that this crate builds in a second
//! and depends on nothing. `tests/` compares what they write, and every sentence that they refuse something with.

mod model;
mod params;
mod tokens;

use proc_macro::{Literal, TokenStream, TokenTree};

/// Writes `#[inline(always)]` on functions, and refuses closures in code over `Real`. `gibbs::model` documents it.
#[proc_macro_attribute]
pub fn model(arguments: TokenStream, item: TokenStream) -> TokenStream {
    model::expand(arguments, item)
}

/// Implements `gibbs::ModelParams`, which documents it, for a struct with named fields.
#[proc_macro_derive(ModelParams)]
pub fn model_params(item: TokenStream) -> TokenStream {
    params::derive(item)
}

/// What [`macro@model`] makes of an item, as a string: for the tests of this crate only.
#[doc(hidden)]
#[proc_macro]
pub fn expanded_model(item: TokenStream) -> TokenStream {
    TokenTree::from(Literal::string(&model::expand(TokenStream::new(), item).to_string())).into()
}

/// What `ModelParams` is derived as, as a string: for the tests of this crate only.
#[doc(hidden)]
#[proc_macro]
pub fn expanded_model_params(item: TokenStream) -> TokenStream {
    TokenTree::from(Literal::string(&params::derive(item).to_string())).into()
}
