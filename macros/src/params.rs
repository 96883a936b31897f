//! `#[derive(ModelParams)]`: the fields of a struct, as run-time parameters in order.

use proc_macro::{Delimiter, Group, Ident, Literal, Span, TokenStream, TokenTree};

use crate::tokens::{angle_depths, error, group, is_punct, is_word, word};

const STRUCT: &str = "`ModelParams` can be derived for a struct with named fields, such as \
                      `struct Goal<R> { x: R, y: R }`";
const NUMBER: &str = "a struct of parameters has one type parameter, the type of its numbers, such as \
                      `struct Goal<R> { x: R, y: R }`, and otherwise constants only";

/// The implementations for a struct, or an error.
pub(crate) fn derive(item: TokenStream) -> TokenStream {
    match Struct::parse(item) {
        Ok(parsed) => parsed.implementations(),
        Err((message, span)) => error(message, span),
    }
}

/// A struct with named fields.
struct Struct {
    visibility: TokenStream,
    name: Ident,
    /// The type of its numbers.
    number: Ident,
    /// The declarations of its constant parameters.
    constants: Vec<TokenStream>,
    /// All parameters: the number type as `None`, a constant by its name.
    arguments: Vec<Option<Ident>>,
    /// The bounds on the number type.
    bounds: TokenStream,
    /// What follows `where`.
    conditions: TokenStream,
    fields: Vec<(Ident, TokenStream)>,
}

type Refusal = (&'static str, Span);

impl Struct {
    fn parse(item: TokenStream) -> Result<Self, Refusal> {
        let tokens: Vec<TokenTree> = item.into_iter().collect();
        let keyword = (0..tokens.len())
            .find(|i| ["struct", "enum", "union"].iter().any(|keyword| is_word(tokens.get(*i), keyword)))
            .ok_or((STRUCT, Span::call_site()))?;
        let Some(TokenTree::Ident(name)) = tokens.get(keyword + 1) else {
            return Err((STRUCT, tokens[keyword].span()));
        };
        let fields = match group(tokens.last(), Delimiter::Brace) {
            Some(fields) if is_word(tokens.get(keyword), "struct") => fields_of(fields)?,
            _ => return Err((STRUCT, name.span())),
        };
        if fields.is_empty() {
            return Err((STRUCT, name.span()));
        }
        let visible = (0..keyword).find(|i| is_word(tokens.get(*i), "pub")).unwrap_or(keyword);

        let rest = &tokens[keyword + 2..tokens.len() - 1];
        let depths = angle_depths(rest);
        let end = depths.iter().position(|depth| *depth == 0).unwrap_or(0);
        let declared = if is_punct(rest.first(), '<') { &rest[1..end] } else { &[] };
        let conditions = rest.iter().position(|token| is_word(Some(token), "where"));
        let (mut number, mut bounds) = (None, TokenStream::new());
        let (mut constants, mut arguments) = (Vec::new(), Vec::new());
        for parameter in split(declared) {
            let parameter = without_default(without_attributes(parameter));
            match parameter {
                [TokenTree::Ident(first), TokenTree::Ident(name), ..] if first.to_string() == "const" => {
                    constants.push(parameter.iter().cloned().collect());
                    arguments.push(Some(name.clone()));
                }
                [TokenTree::Ident(name), rest @ ..] if number.is_none() => {
                    number = Some(name.clone());
                    bounds = rest.iter().skip(1).cloned().collect();
                    arguments.push(None);
                }
                _ => return Err((NUMBER, parameter.first().map_or(name.span(), TokenTree::span))),
            }
        }
        Ok(Self {
            visibility: tokens[visible..keyword].iter().cloned().collect(),
            name: name.clone(),
            number: number.ok_or((NUMBER, name.span()))?,
            constants,
            arguments,
            bounds,
            conditions: conditions.map(|at| rest[at + 1..].iter().cloned().collect()).unwrap_or_default(),
            fields,
        })
    }

    fn implementations(&self) -> TokenStream {
        let Self { name, number, fields, bounds, .. } = self;
        let of = |ty: &TokenStream| code("<*# as ::gibbs::ModelParams<*#>>", &[ty.clone(), tokens(number)]);

        let (mut before, mut counts) = (code("first", &[]), code("0", &[]));
        let (mut reads, mut writes, mut names) = (TokenStream::new(), TokenStream::new(), TokenStream::new());
        for (field, ty) in fields {
            let (of, field_name) = (of(ty), TokenStream::from(literal(&format!(".{}", plain(field)))));
            let field = tokens(field);
            reads.extend(code("*#: *#::read(at, *#),", &[field.clone(), of.clone(), before.clone()]));
            writes.extend(code(
                "let (values, rest) = rest.split_at_mut(*#::COUNT); *#::write(&self.*#, values);",
                &[of.clone(), of.clone(), field],
            ));
            names.extend(code(
                "if index < *#::COUNT { return [*#, &*#::name(index)].concat(); } let index = index - *#::COUNT;",
                &[of.clone(), field_name, of.clone(), of.clone()],
            ));
            before.extend(code("+ *#::COUNT", std::slice::from_ref(&of)));
            counts.extend(code("+ *#::COUNT", &[of]));
        }

        let mut generics = code("*#: *# ::gibbs::Real,", &[tokens(number), plus(bounds)]);
        let mut constants = TokenStream::new();
        for constant in &self.constants {
            constants.extend(code("*#,", std::slice::from_ref(constant)));
        }
        generics.extend(constants.clone());
        let itself = self.with_number(&tokens(number));
        let conditions = &self.conditions;
        let mut all = code(
            "#[automatically_derived]
            impl<*#> ::gibbs::ModelParams<*#> for *# where *# {
                const NAME: &'static str = *#;
                const COUNT: usize = *#;
                #[inline(always)]
                fn read(at: &::gibbs::StepContext<'_, *#>, first: usize) -> Self { Self { *# } }
                #[inline(always)]
                fn write(&self, values: &mut [*#]) { let rest = values; *# let _ = rest; }
                fn name(index: usize) -> ::std::string::String { *# let _ = index; ::std::string::String::new() }
            }",
            &[
                generics,
                tokens(number),
                itself,
                conditions.clone(),
                TokenStream::from(literal(&plain(name))),
                counts,
                tokens(number),
                reads,
                tokens(number),
                writes,
                names,
            ],
        );

        let plain_numbers = self.with_number(&code("f32", &[]));
        let count = code("<*# as ::gibbs::ModelParams<f32>>::COUNT", std::slice::from_ref(&plain_numbers));
        all.extend(code(
            "#[automatically_derived]
            impl<*#> ::core::convert::From<*#> for ::std::vec::Vec<f32> {
                fn from(params: *#) -> Self {
                    let mut values = ::std::vec![0.0; *#];
                    ::gibbs::ModelParams::write(&params, &mut values);
                    values
                }
            }",
            &[constants.clone(), plain_numbers.clone(), plain_numbers.clone(), count.clone()],
        ));
        // The length of an array cannot depend on a constant of the struct.
        if self.constants.is_empty() {
            all.extend(code(
                "#[automatically_derived]
                impl *# {
                    /// The parameters in order, as a driver's `set_params` takes them.
                    #[allow(dead_code, reason = \"not every struct of parameters is set again\")]
                    *# fn to_array(&self) -> [f32; *#] {
                        let mut values = [0.0; *#];
                        ::gibbs::ModelParams::write(self, &mut values);
                        values
                    }
                }",
                &[plain_numbers, self.visibility.clone(), count.clone(), count],
            ));
        }
        all
    }

    /// The struct with this type of numbers, `Goal<R>`.
    fn with_number(&self, number: &TokenStream) -> TokenStream {
        let mut arguments = TokenStream::new();
        for argument in &self.arguments {
            arguments.extend(argument.as_ref().map_or_else(|| number.clone(), tokens));
            arguments.extend(code(",", &[]));
        }
        code("*#<*#>", &[tokens(&self.name), arguments])
    }
}

/// The fields of a struct: their names and types.
fn fields_of(braces: &Group) -> Result<Vec<(Ident, TokenStream)>, Refusal> {
    let tokens: Vec<TokenTree> = braces.stream().into_iter().collect();
    let field = |tokens: &[TokenTree]| {
        let colon = tokens.iter().position(|token| is_punct(Some(token), ':'))?;
        let Some(TokenTree::Ident(name)) = tokens.get(colon.checked_sub(1)?) else { return None };
        Some((name.clone(), tokens[colon + 1..].iter().cloned().collect()))
    };
    split(&tokens)
        .map(|tokens| {
            field(without_attributes(tokens)).ok_or((STRUCT, tokens.first().map_or(braces.span(), TokenTree::span)))
        })
        .collect()
}

/// The parts between commas, but not those within `<…>`. Nothing follows a trailing comma.
fn split(tokens: &[TokenTree]) -> impl Iterator<Item = &[TokenTree]> {
    let depths = angle_depths(tokens);
    let mut parts = Vec::new();
    let mut start = 0;
    for (i, depth) in depths.into_iter().enumerate() {
        if depth == 0 && is_punct(tokens.get(i), ',') {
            parts.push(&tokens[start..i]);
            start = i + 1;
        }
    }
    if start < tokens.len() {
        parts.push(&tokens[start..]);
    }
    parts.into_iter()
}

/// The tokens after `#[…]`.
fn without_attributes(tokens: &[TokenTree]) -> &[TokenTree] {
    match tokens {
        [hash, TokenTree::Group(_), rest @ ..] if is_punct(Some(hash), '#') => without_attributes(rest),
        _ => tokens,
    }
}

/// The declaration of a parameter without its default.
fn without_default(parameter: &[TokenTree]) -> &[TokenTree] {
    let depths = angle_depths(parameter);
    let end = (0..parameter.len()).find(|i| depths[*i] == 0 && is_punct(parameter.get(*i), '='));
    &parameter[..end.unwrap_or(parameter.len())]
}

/// `bounds +`, or nothing.
fn plus(bounds: &TokenStream) -> TokenStream {
    if bounds.is_empty() { TokenStream::new() } else { code("*# +", std::slice::from_ref(bounds)) }
}

/// A name without `r#`.
fn plain(name: &Ident) -> String {
    word(Some(&name.clone().into())).map(|name| name.trim_start_matches("r#").to_owned()).unwrap_or_default()
}

fn literal(text: &str) -> TokenTree {
    Literal::string(text).into()
}

fn tokens(name: &Ident) -> TokenStream {
    TokenTree::from(name.clone()).into()
}

/// Code in which each `*#` stands for the next of some tokens, which keep their place in the user's source.
fn code(text: &str, parts: &[TokenStream]) -> TokenStream {
    let mut parts = parts.iter();
    let filled = fill(text.parse().expect("it is Rust"), &mut parts);
    assert!(parts.next().is_none(), "as many gaps as parts");
    filled
}

fn fill<'a>(text: TokenStream, parts: &mut impl Iterator<Item = &'a TokenStream>) -> TokenStream {
    let mut filled = TokenStream::new();
    let mut text = text.into_iter().peekable();
    while let Some(token) = text.next() {
        match token {
            TokenTree::Punct(star) if star.as_char() == '*' && is_punct(text.peek(), '#') => {
                text.next();
                filled.extend(parts.next().expect("as many parts as gaps").clone());
            }
            TokenTree::Group(group) => {
                filled.extend([TokenTree::from(Group::new(group.delimiter(), fill(group.stream(), parts)))]);
            }
            token => filled.extend([token]),
        }
    }
    filled
}
