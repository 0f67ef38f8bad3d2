//! The functions of a source and the methods of its types: read by their tokens.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What a source says of its functions and types.
#[derive(Debug, Default)]
pub struct Functions {
    /// Each function that has a body: its name, and the lines from `fn` to the closing brace.
    pub lengths: Vec<(String, usize)>,
    /// Types that are made here: structs, enums and unions, by name.
    pub types: Vec<String>,
    /// Types that get methods of their own here, by name. What they do for a trait counts not.
    pub methods_of: Vec<String>,
}

impl Functions {
    /// Reads a source.
    ///
    /// # Panics
    /// If it is no Rust.
    pub fn of(text: &str) -> Functions {
        let mut functions = Functions::default();
        functions.read(text.parse().expect("Rust"));
        functions
    }

    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for at in 0..tokens.len() {
            match &tokens[at..] {
                [TokenTree::Ident(word), TokenTree::Ident(name), rest @ ..] if word == "fn" => {
                    if let Some(end) = body(rest) {
                        let lines = end.span_close().end().line - word.span().start().line + 1;
                        self.lengths.push((name.to_string(), lines));
                    }
                }
                [TokenTree::Ident(word), TokenTree::Ident(name), ..]
                    if ["struct", "enum", "union"].iter().any(|kind| word == kind) =>
                {
                    self.types.push(name.to_string());
                }
                [TokenTree::Ident(word), rest @ ..] if word == "impl" && begins(&tokens[..at]) => {
                    self.methods_of.extend(own_methods(rest));
                }
                [TokenTree::Group(group), ..] => self.read(group.stream()),
                _ => {}
            }
        }
    }
}

/// The body of a function, whose name stands before `tokens`.
fn body(tokens: &[TokenTree]) -> Option<&proc_macro2::Group> {
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return Some(group),
            TokenTree::Punct(mark) if mark.as_char() == ';' => return None,
            _ => {}
        }
    }
    None
}

/// Whether an item may begin after `tokens`: `impl` stands in types, too.
fn begins(tokens: &[TokenTree]) -> bool {
    match tokens.last() {
        None => true,
        Some(TokenTree::Group(group)) => group.delimiter() != Delimiter::Parenthesis,
        Some(TokenTree::Punct(mark)) => mark.as_char() == ';',
        Some(TokenTree::Ident(word)) => word == "unsafe",
        Some(TokenTree::Literal(_)) => false,
    }
}

/// The type whose own methods stand in the block behind `impl`, if there are any.
fn own_methods(tokens: &[TokenTree]) -> Option<String> {
    let (mut depth, mut name, mut named) = (0, None, false);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '<' => {
                depth += 1;
                named |= name.is_some();
            }
            // That of an arrow closes nothing.
            TokenTree::Punct(mark) if mark.as_char() == '>' => {
                let is_arrow =
                    at > 0 && matches!(&tokens[at - 1], TokenTree::Punct(p) if p.as_char() == '-');
                depth -= i32::from(!is_arrow);
            }
            TokenTree::Ident(word) if depth == 0 && word == "for" => return None,
            TokenTree::Ident(word) if depth == 0 && word == "where" => named = true,
            TokenTree::Ident(word) if depth == 0 && !named => name = Some(word.to_string()),
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && depth == 0 => {
                let has_one = group
                    .stream()
                    .into_iter()
                    .any(|token| matches!(token, TokenTree::Ident(word) if word == "fn"));
                return name.filter(|_| has_one);
            }
            _ => {}
        }
    }
    None
}
