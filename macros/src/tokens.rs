//! What both macros ask of token trees.

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// The identifier or keyword that a token is.
pub(crate) fn word(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

/// Whether a token is this identifier or keyword.
pub(crate) fn is_word(token: Option<&TokenTree>, text: &str) -> bool {
    word(token).is_some_and(|word| word == text)
}

/// Whether a token is this punctuation character.
pub(crate) fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

/// Whether a token is this punctuation character, and the next character belongs to the same operator.
pub(crate) fn is_joint(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character && punct.spacing() == Spacing::Joint)
}

/// The group in these delimiters that a token is.
pub(crate) fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<&Group> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

/// Whether an identifier occurs in some tokens, at any depth.
pub(crate) fn mentions(tokens: impl IntoIterator<Item = TokenTree>, text: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident.to_string() == text,
        TokenTree::Group(group) => mentions(group.stream(), text),
        _ => false,
    })
}

/// How many `<` are open after each token. The `>` of `->` and `=>` closes none.
pub(crate) fn angle_depths(tokens: &[TokenTree]) -> Vec<usize> {
    let mut depth = 0_usize;
    let depth_after = |i: usize| {
        let arrow = i > 0 && (is_joint(tokens.get(i - 1), '-') || is_joint(tokens.get(i - 1), '='));
        if is_punct(tokens.get(i), '<') {
            depth += 1;
        } else if is_punct(tokens.get(i), '>') && !arrow {
            depth = depth.saturating_sub(1);
        }
        depth
    };
    (0..tokens.len()).map(depth_after).collect()
}

/// An error of the compiler at `span`: `compile_error! { "message" }`.
pub(crate) fn error(message: &str, span: Span) -> TokenStream {
    let mut text = Literal::string(message);
    text.set_span(span);
    let mut block = Group::new(Delimiter::Brace, TokenTree::from(text).into());
    block.set_span(span);
    let mut bang = Punct::new('!', Spacing::Alone);
    bang.set_span(span);
    [TokenTree::from(Ident::new("compile_error", span)), bang.into(), block.into()].into_iter().collect()
}
