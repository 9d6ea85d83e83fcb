//! The paths that a source file names, made absolute: `super::x` in `crate::a::b` is `crate::a::x`.
//!
//! This reads words, not grammar. It follows `use` trees, renames, `self`, `super`, `$crate` and
//! inline modules. It does not see paths inside strings (`#[serde(with = "..")]`) or paths that a
//! macro builds from pieces, and it applies a file's imports to the whole file.

use std::collections::BTreeMap;

use super::scan::{Token, Word, words};

/// A path that a source file names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// Absolute: begins with `crate` or with the name of another crate. A glob ends in `*`.
    pub path: Vec<String>,
    /// Line number, from 1.
    pub line: usize,
    /// Whether it stands as `path!(..)`.
    pub called_as_macro: bool,
}

/// All paths in `source`, which is the module `module` of its crate (empty: the root).
pub fn named(source: &str, module: &[String]) -> Vec<Named> {
    let tokens = words(source);
    let mut reader = Reader {
        tokens: &tokens,
        at: 0,
        inside: Vec::new(),
        depth: 0,
        file: module,
        known: BTreeMap::new(),
    };
    let found = reader.read();
    found.into_iter().map(|named| reader.resolved(named)).collect()
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Inline modules around the present token, each with the brace depth at which it ends.
    inside: Vec<(String, usize)>,
    depth: usize,
    file: &'a [String],
    /// The paths of names in this file: imports, and the modules that it declares.
    known: BTreeMap<String, Vec<String>>,
}

impl Reader<'_> {
    fn word(&self, after: usize) -> Option<&Word> {
        self.tokens.get(self.at + after).map(|token| &token.word)
    }

    fn sign(&self, after: usize, sign: char) -> bool {
        self.word(after) == Some(&Word::Sign(sign))
    }

    fn name(&self, after: usize) -> Option<String> {
        match self.word(after) {
            Some(Word::Name(name)) => Some(name.clone()),
            _ => None,
        }
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.line)
    }

    fn read(&mut self) -> Vec<Named> {
        let mut found = Vec::new();
        while self.at < self.tokens.len() {
            match self.word(0) {
                Some(Word::Name(name)) if name == "use" => {
                    self.at += 1;
                    self.tree(Vec::new(), &mut found);
                }
                Some(Word::Name(name))
                    if name == "extern" && self.word(1).is_some_and(|word| word.is("crate")) =>
                {
                    self.at += 2;
                    self.tree(Vec::new(), &mut found);
                }
                Some(Word::Name(name)) if name == "mod" => self.module(),
                Some(Word::Name(_)) => self.path(&mut found),
                Some(Word::Sign('{')) => {
                    self.depth += 1;
                    self.at += 1;
                }
                Some(Word::Sign('}')) => {
                    if self.inside.last().is_some_and(|(_, depth)| *depth == self.depth) {
                        self.inside.pop();
                    }
                    self.depth = self.depth.saturating_sub(1);
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
        found
    }

    /// Reads `mod name;` or `mod name {`.
    fn module(&mut self) {
        self.at += 1;
        let Some(name) = self.name(0) else { return };
        let mut path = self.here();
        path.push(name.clone());
        self.known.insert(name.clone(), path);
        if self.sign(1, '{') {
            self.depth += 1;
            self.inside.push((name, self.depth));
            self.at += 1;
        }
        self.at += 1;
    }

    /// The module around the present token, from the crate's root.
    fn here(&self) -> Vec<String> {
        let inline = self.inside.iter().map(|(name, _)| name.clone());
        std::iter::once("crate".to_owned()).chain(self.file.iter().cloned()).chain(inline).collect()
    }

    /// Reads a path in an expression, a type or an attribute; a single name counts too.
    fn path(&mut self, found: &mut Vec<Named>) {
        let (line, mut path) = (self.line(), Vec::new());
        while let Some(name) = self.name(0) {
            path.push(name);
            self.at += 1;
            if self.word(0) != Some(&Word::Path) {
                break;
            }
            self.at += 1;
        }
        let called_as_macro = self.sign(0, '!') && !self.sign(1, '=');
        let path = self.absolute(path);
        found.push(Named { path, line, called_as_macro });
    }

    /// Reads a tree of a `use`, after its prefix.
    fn tree(&mut self, mut prefix: Vec<String>, found: &mut Vec<Named>) {
        let line = self.line();
        loop {
            match self.word(0).cloned() {
                Some(Word::Path) => self.at += 1,
                Some(Word::Sign('{')) => {
                    self.at += 1;
                    while self.at < self.tokens.len() && !self.sign(0, '}') {
                        self.tree(prefix.clone(), found);
                        if self.sign(0, ',') {
                            self.at += 1;
                        } else if !self.sign(0, '}') {
                            return;
                        }
                    }
                    self.at += 1;
                    return;
                }
                Some(Word::Sign('*')) => {
                    self.at += 1;
                    prefix.push("*".to_owned());
                    break;
                }
                Some(Word::Name(name)) if name == "as" => {
                    self.at += 1;
                    let alias = self.name(0);
                    self.at += 1;
                    return self.import(prefix, alias, line, found);
                }
                Some(Word::Name(name)) => {
                    self.at += 1;
                    // `self` in `a::{self, b}` is the prefix itself.
                    if name != "self" || prefix.is_empty() {
                        prefix.push(name);
                    }
                }
                _ => break,
            }
        }
        let alias = prefix.last().cloned();
        self.import(prefix, alias, line, found);
    }

    fn import(
        &mut self,
        path: Vec<String>,
        alias: Option<String>,
        line: usize,
        found: &mut Vec<Named>,
    ) {
        if path.is_empty() {
            return;
        }
        let path = self.absolute(path);
        if let Some(alias) = alias.filter(|alias| alias != "*" && alias != "_") {
            self.known.insert(alias, path.clone());
        }
        found.push(Named { path, line, called_as_macro: false });
    }

    /// Resolves `self` and `super`.
    fn absolute(&self, path: Vec<String>) -> Vec<String> {
        let mut base = match path.first().map(String::as_str) {
            Some("self" | "super") => self.here(),
            _ => return path,
        };
        let climbs = path.iter().filter(|name| *name == "super").count();
        base.truncate(base.len().saturating_sub(climbs).max(1));
        base.extend(path.into_iter().filter(|name| name != "self" && name != "super"));
        base
    }

    /// Replaces the first name by its meaning in this file. Done last, since an import may stand
    /// below its use.
    fn resolved(&self, named: Named) -> Named {
        let mut path = named.path.clone();
        // Imports may refer to one another; a ring of them (`use a::a`) must end.
        for _ in 0..4 {
            match path.first().and_then(|first| self.known.get(first)) {
                Some(meaning) if meaning.first() != path.first() => {
                    path = meaning.iter().cloned().chain(path.into_iter().skip(1)).collect();
                }
                _ => break,
            }
        }
        Named { path, ..named }
    }
}
