//! The modules of a crate, and which of them names which: read from the sources, by their tokens.
//!
//! An arrow goes from the module of a file to the module of the file in which a name is that it
//! uses. A name that a module only passes on (`pub use`) is looked for where it comes from, and the
//! passing on is no arrow: a front door does not depend on the rooms behind it. Modules within a
//! file belong to it.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules of a crate by their paths from its root, which is the empty path, and whom each names.
#[derive(Debug, Default)]
pub struct Modules(BTreeMap<String, BTreeSet<String>>);

/// Names from the root of the crate on.
type Names = Vec<String>;

/// What one file says.
#[derive(Debug, Default)]
struct File {
    /// Paths that it names.
    uses: Vec<Names>,
    /// Names that it passes on, and where they come from.
    passes_on: BTreeMap<String, Names>,
}

impl Modules {
    /// Reads the sources of the crate in the folder `src`.
    ///
    /// # Panics
    /// If a file cannot be read, or is no Rust.
    pub fn read(src: &Path) -> Modules {
        let mut files = Vec::new();
        gather(src, &mut Vec::new(), &mut files);
        // Programs beside a library are crates of their own, of one file.
        let is_library = files.iter().any(|(module, _)| module.is_empty());
        files
            .retain(|(module, _)| !(module.starts_with("bin::") || is_library && module == "main"));
        for (module, _) in &mut files {
            if module == "main" {
                module.clear();
            }
        }
        Modules::of(&files)
    }

    /// The modules of these files: the path of each module, and its text.
    ///
    /// # Panics
    /// If a text is no Rust.
    pub fn of(files: &[(String, String)]) -> Modules {
        let known: BTreeSet<&str> = files.iter().map(|(module, _)| module.as_str()).collect();
        let parsed: BTreeMap<&str, File> = files
            .iter()
            .map(|(module, text)| (module.as_str(), File::parse(module, text, &known)))
            .collect();
        let arrows = parsed.iter().map(|(module, file)| {
            let named = file.uses.iter().map(|path| home(path, &parsed));
            (module.to_string(), named.filter(|to| to != module).collect())
        });
        Modules(arrows.collect())
    }

    /// Each module with each that it names.
    pub fn arrows(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(from, to)| to.iter().map(|to| (from.as_str(), to.as_str())))
    }

    /// The sets of modules in which each names each, by way of others.
    pub fn circles(&self) -> BTreeSet<BTreeSet<&str>> {
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            self.0.keys().map(|module| (module.as_str(), self.reach(module))).collect();
        let circle = |module: &str| -> BTreeSet<&str> {
            reach[module].iter().copied().filter(|other| reach[other].contains(module)).collect()
        };
        reach.keys().map(|module| circle(module)).filter(|circle| !circle.is_empty()).collect()
    }

    /// What can be come to from `module`.
    fn reach<'a>(&'a self, module: &'a str) -> BTreeSet<&'a str> {
        let (mut seen, mut next) = (BTreeSet::new(), vec![module]);
        while let Some(from) = next.pop() {
            let named = self.0.get(from).into_iter().flatten();
            next.extend(named.map(String::as_str).filter(|to| seen.insert(*to)));
        }
        seen
    }
}

/// The files below `folder` as modules below `path`.
fn gather(folder: &Path, path: &mut Names, files: &mut Vec<(String, String)>) {
    let entries = std::fs::read_dir(folder).expect("a folder of sources");
    for entry in entries.map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        if entry.is_dir() {
            path.push(name);
            gather(&entry, path, files);
            path.pop();
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            let mut module = path.clone();
            if !["lib", "mod"].contains(&name.as_str()) {
                module.push(name);
            }
            files.push((module.join("::"), std::fs::read_to_string(&entry).expect("a text")));
        }
    }
}

/// The module in whose file the thing of this path is.
fn home(path: &[String], parsed: &BTreeMap<&str, File>) -> String {
    let (mut path, mut passed) = (path.to_vec(), BTreeSet::new());
    loop {
        let depth =
            (0..=path.len()).rev().find(|n| parsed.contains_key(path[..*n].join("::").as_str()));
        let depth = depth.expect("the root is a module");
        let module = path[..depth].join("::");
        let from = path.get(depth).and_then(|name| parsed[module.as_str()].passes_on.get(name));
        match from {
            Some(from) if passed.insert(path.clone()) => {
                path = from.iter().chain(&path[depth + 1..]).cloned().collect();
            }
            _ => return module,
        }
    }
}

impl File {
    fn parse(module: &str, text: &str, known: &BTreeSet<&str>) -> File {
        let tokens: TokenStream = text.parse().unwrap_or_else(|why| panic!("{module}: {why}"));
        let mut reader = Reader { known, file: File::default(), idents: BTreeMap::new() };
        let scope: Names =
            module.split("::").filter(|name| !name.is_empty()).map(String::from).collect();
        reader.read(tokens, &scope);
        let Reader { mut file, idents, .. } = reader;
        // What a module passes on and uses itself it names.
        let used = file.passes_on.iter().filter(|(name, _)| idents[*name] > 1);
        file.uses.extend(used.map(|(_, from)| from.clone()).collect::<Vec<_>>());
        file
    }
}

struct Reader<'a> {
    known: &'a BTreeSet<&'a str>,
    file: File,
    /// How often each identifier stands in the file.
    idents: BTreeMap<String, usize>,
}

impl Reader<'_> {
    /// Reads tokens that stand in the module `scope`.
    fn read(&mut self, tokens: TokenStream, scope: &Names) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at += match &tokens[at..] {
                [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(body), ..]
                    if word == "mod" && body.delimiter() == Delimiter::Brace =>
                {
                    let inner: Names = scope.iter().cloned().chain([name.to_string()]).collect();
                    self.read(body.stream(), &inner);
                    3
                }
                [TokenTree::Ident(word), rest @ ..] if word == "use" => {
                    let end = rest.iter().position(|token| is_punct(token, ';'));
                    let tree = &rest[..end.unwrap_or(rest.len())];
                    self.import(tree, &[], is_public(&tokens[..at]), scope);
                    1 + tree.len()
                }
                [TokenTree::Group(group), ..] => {
                    self.read(group.stream(), scope);
                    1
                }
                [TokenTree::Ident(_), ..] => self.path(&tokens, at, scope),
                _ => 1,
            };
        }
    }

    /// Reads a path in the code that begins at `at`; the tokens that it takes.
    fn path(&mut self, tokens: &[TokenTree], at: usize, scope: &Names) -> usize {
        let (names, taken) = names(&tokens[at..]);
        names.iter().for_each(|name| self.count(name));
        let goes_on =
            at > 0 && is_punct(&tokens[at - 1], ':') && at > 1 && is_punct(&tokens[at - 2], ':');
        if names.len() > 1
            && !goes_on
            && let Some(path) = self.absolute(&names, scope)
        {
            self.file.uses.push(path);
        }
        taken
    }

    /// Reads the tree of a `use`.
    fn import(&mut self, tree: &[TokenTree], before: &[String], public: bool, scope: &Names) {
        let (names, taken) = names(tree);
        names.iter().for_each(|name| self.count(name));
        let mut path: Names = before.iter().cloned().chain(names).collect();
        if let Some(TokenTree::Group(group)) = tree.get(taken) {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            for branch in inner.split(|token| is_punct(token, ',')).filter(|b| !b.is_empty()) {
                self.import(branch, &path, public, scope);
            }
            return;
        }
        if path.len() > 1 && path.last().is_some_and(|name| name == "self") {
            path.pop();
        }
        let Some(path) = self.absolute(&path, scope) else { return };
        let alias = match &tree[taken..] {
            [TokenTree::Ident(word), TokenTree::Ident(alias)] if word == "as" => {
                self.count(&alias.to_string());
                Some(alias.to_string())
            }
            [] => path.last().cloned(),
            // All that is there.
            _ => None,
        };
        match alias {
            Some(name) if public => {
                self.file.passes_on.insert(name, path);
            }
            _ => self.file.uses.push(path),
        }
    }

    /// A path from the root of the crate; none if it leads out of the crate.
    fn absolute(&self, names: &[String], scope: &Names) -> Option<Names> {
        let (first, rest) = names.split_first()?;
        let mut path = match first.as_str() {
            "crate" => Names::new(),
            "self" | "super" => scope.clone(),
            child => {
                let child: Names = scope.iter().cloned().chain([child.to_owned()]).collect();
                return self
                    .known
                    .contains(child.join("::").as_str())
                    .then(|| child.into_iter().chain(rest.iter().cloned()).collect());
            }
        };
        if first == "super" {
            path.pop();
        }
        for name in rest {
            match name.as_str() {
                "super" => drop(path.pop()),
                _ => path.push(name.clone()),
            }
        }
        Some(path)
    }

    fn count(&mut self, name: &str) {
        *self.idents.entry(name.to_owned()).or_default() += 1;
    }
}

/// The names at the front of `tokens` that `::` joins, and the tokens up to what follows them.
fn names(tokens: &[TokenTree]) -> (Names, usize) {
    let (mut names, mut at) = (Names::new(), 0);
    while let Some(TokenTree::Ident(name)) = tokens.get(at) {
        names.push(name.to_string());
        at += 1;
        match tokens.get(at..at + 2) {
            Some([one, two]) if is_punct(one, ':') && is_punct(two, ':') => at += 2,
            _ => break,
        }
    }
    (names, at)
}

fn is_punct(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// Whether what follows `tokens` is visible outside.
fn is_public(tokens: &[TokenTree]) -> bool {
    match tokens {
        [.., TokenTree::Ident(word)] => word == "pub",
        [.., TokenTree::Ident(word), TokenTree::Group(_)] => word == "pub",
        _ => false,
    }
}

/// Whether a source has unsafe code.
///
/// # Panics
/// If it is no Rust.
pub fn has_unsafe(text: &str) -> bool {
    fn any(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(word) => word == "unsafe",
            TokenTree::Group(group) => any(group.stream()),
            _ => false,
        })
    }
    any(text.parse().expect("Rust"))
}
