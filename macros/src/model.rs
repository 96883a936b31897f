//! `#[gibbs::model]`: marks functions `#[inline(always)]` and refuses closures.

use proc_macro::{Delimiter, Group, Span, TokenStream, TokenTree};

use crate::tokens::{angle_depths, error, group, is_joint, is_punct, is_word, mentions, word};

const CLOSURE: &str = "a closure in a function over `Real` may not be inlined, and then the CPU computes it without \
                       vector instructions: write a loop over indices, or a function marked `#[gibbs::model]`";
const ITEM: &str = "`#[gibbs::model]` belongs on an `impl`, a `trait` or a function";
const ARGUMENTS: &str = "`#[gibbs::model]` takes no arguments";

/// The item with its functions marked. Whatever is refused follows it as an error, so that nothing else is reported
/// about the item.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = item.into_iter().collect();
    let mut faults = Vec::new();
    if let Some(first) = arguments.into_iter().next() {
        faults.push((ARGUMENTS, first.span()));
    }
    let keyword = tokens.iter().find(|token| {
        word(Some(token)).is_some_and(|word| {
            ["fn", "impl", "trait", "struct", "enum", "union", "mod", "use", "static", "type"].contains(&&*word)
        })
    });
    if !word(keyword).is_some_and(|word| ["fn", "impl", "trait"].contains(&&*word)) {
        faults.push((ITEM, keyword.map_or_else(Span::call_site, TokenTree::span)));
    }
    let outside = Scope { methods_over_real: false, over_real: false, braces: false };
    let mut marked = outside.mark(&tokens, &mut faults);
    for (message, span) in faults {
        marked.extend(error(message, span));
    }
    marked
}

/// Where tokens are.
#[derive(Clone, Copy)]
struct Scope {
    /// Whether the functions here belong to an `impl` or a `trait` that is generic over `Real`.
    methods_over_real: bool,
    /// Whether this is the body of a function that is generic over `Real`, itself or by its `impl`.
    over_real: bool,
    /// Whether braces surround the tokens.
    braces: bool,
}

impl Scope {
    /// The tokens, with functions marked; adds what is refused to `faults`.
    fn mark(self, tokens: &[TokenTree], faults: &mut Vec<(&'static str, Span)>) -> TokenStream {
        let mut marked = Vec::new();
        let mut i = 0;
        while i < tokens.len() {
            let function = is_word(tokens.get(i), "fn") && matches!(tokens.get(i + 1), Some(TokenTree::Ident(_)));
            let block = is_word(tokens.get(i), "impl") || is_word(tokens.get(i), "trait");
            if (function || block)
                && let Some((body, braces)) = body(tokens, i)
            {
                let over_real = mentions(tokens[i..body].iter().cloned(), "Real");
                let inside = if function {
                    insert_inline(&mut marked);
                    Self { over_real: over_real || self.methods_over_real, methods_over_real: false, braces: true }
                } else {
                    Self { over_real: false, methods_over_real: over_real, braces: true }
                };
                marked.extend(tokens[i..body].iter().cloned());
                marked.push(inside.group(braces, faults));
                i = body + 1;
                continue;
            }
            if self.over_real && opens_closure(tokens, i, self.braces) {
                faults.push((CLOSURE, tokens[i].span()));
            }
            marked.push(match &tokens[i] {
                TokenTree::Group(group) => {
                    Self { braces: group.delimiter() == Delimiter::Brace, ..self }.group(group, faults)
                }
                token => token.clone(),
            });
            i += 1;
        }
        marked.into_iter().collect()
    }

    /// A group with its functions marked.
    fn group(self, of: &Group, faults: &mut Vec<(&'static str, Span)>) -> TokenTree {
        let tokens: Vec<_> = of.stream().into_iter().collect();
        let mut group = Group::new(of.delimiter(), self.mark(&tokens, faults));
        group.set_span(of.span());
        group.into()
    }
}

/// The block of the item that begins at token `start`, with its position. Braces within `<…>` are constants. `None` for
/// a function without a body.
fn body(tokens: &[TokenTree], start: usize) -> Option<(usize, &Group)> {
    let depths = angle_depths(&tokens[start..]);
    for (at, depth) in (start..).zip(depths) {
        if is_punct(tokens.get(at), ';') {
            return None;
        }
        if let Some(braces) = group(tokens.get(at), Delimiter::Brace).filter(|_| depth == 0) {
            return Some((at, braces));
        }
    }
    None
}

/// Inserts `#[inline(always)]` before the qualifiers of a function that `written` ends in, unless it has such an
/// attribute.
fn insert_inline(written: &mut Vec<TokenTree>) {
    let mut start = written.len();
    while start > 0 {
        let qualifier = match &written[start - 1] {
            TokenTree::Ident(ident) => {
                ["pub", "const", "async", "unsafe", "extern", "default"].contains(&&*ident.to_string())
            }
            // The ABI of `extern "C"`.
            TokenTree::Literal(_) => start > 1 && is_word(written.get(start - 2), "extern"),
            // The scope of `pub(crate)`.
            TokenTree::Group(_) => start > 1 && is_word(written.get(start - 2), "pub"),
            TokenTree::Punct(_) => false,
        };
        if !qualifier {
            break;
        }
        start -= 1;
    }
    let mut before = start;
    while before > 1 && is_punct(written.get(before - 2), '#') {
        match group(written.get(before - 1), Delimiter::Bracket) {
            Some(attribute) if mentions(attribute.stream(), "inline") => return,
            Some(_) => before -= 2,
            None => break,
        }
    }
    let inline: TokenStream = "#[inline(always)]".parse().expect("it is an attribute");
    written.splice(start..start, inline);
}

/// Whether the token at `i` is the first `|` of a closure, and not of a pattern or an operator.
fn opens_closure(tokens: &[TokenTree], i: usize, braces: bool) -> bool {
    if !is_punct(tokens.get(i), '|') {
        return false;
    }
    let before = i.checked_sub(1).and_then(|before| tokens.get(before));
    match before {
        None => !(braces && is_arm(&tokens[i..])),
        Some(TokenTree::Ident(ident)) => {
            ["move", "mut", "return", "break", "static", "async", "in", "match"].contains(&&*ident.to_string())
        }
        Some(TokenTree::Literal(_) | TokenTree::Group(_)) => false,
        Some(TokenTree::Punct(punct)) => match punct.as_char() {
            ',' => !(braces && is_arm(&tokens[i..])),
            '>' => i > 1 && is_joint(tokens.get(i - 2), '='),
            other => ";=&*!:".contains(other),
        },
    }
}

/// Whether tokens that begin with `|` are an arm of a `match`: `| A | B => …`.
fn is_arm(tokens: &[TokenTree]) -> bool {
    let arrow = |i: &usize| is_joint(tokens.get(*i), '=') && is_punct(tokens.get(i + 1), '>');
    let end = (0..tokens.len()).find(|i| is_punct(tokens.get(*i), ',')).unwrap_or(tokens.len());
    (0..end).any(|i| arrow(&i))
}
