//! Splits Rust source into words with their lines; skips comments, strings, characters, numbers.

/// A word of Rust that matters to the law.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// An identifier or a keyword; a raw one without its `r#`.
    Name(String),
    /// The separator `::`.
    Path,
    /// Any other sign, of one character.
    Sign(char),
}

impl Word {
    /// Whether this is the given name.
    pub fn is(&self, name: &str) -> bool {
        matches!(self, Word::Name(own) if own == name)
    }
}

/// A word and its line number, from 1.
#[derive(Clone, Debug)]
pub struct Token {
    pub word: Word,
    pub line: usize,
}

/// All words of `source`. Never panics on text that is not Rust.
pub fn words(source: &str) -> Vec<Token> {
    let mut scanner = Scanner { text: source.chars().collect(), at: 0, line: 1, found: Vec::new() };
    while scanner.at < scanner.text.len() {
        scanner.step();
    }
    scanner.found
}

struct Scanner {
    text: Vec<char>,
    at: usize,
    line: usize,
    found: Vec<Token>,
}

impl Scanner {
    fn peek(&self, after: usize) -> char {
        self.text.get(self.at + after).copied().unwrap_or('\0')
    }

    fn advance(&mut self) {
        if self.peek(0) == '\n' {
            self.line += 1;
        }
        self.at += 1;
    }

    fn advance_by(&mut self, count: usize) {
        (0..count).for_each(|_| self.advance());
    }

    fn advance_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.at < self.text.len() && wanted(self.peek(0)) {
            self.advance();
        }
    }

    fn keep(&mut self, word: Word) {
        self.found.push(Token { word, line: self.line });
    }

    fn step(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => self.advance_while(|c| c != '\n'),
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(),
            ('\'', _) => self.character_or_lifetime(),
            (':', ':') => {
                self.keep(Word::Path);
                self.advance_by(2);
            }
            (c, _) if c.is_ascii_digit() => self.advance_while(|c| c.is_alphanumeric() || c == '_'),
            (c, _) if c.is_alphabetic() || c == '_' => self.name(),
            (c, _) if c.is_whitespace() => self.advance(),
            (c, _) => {
                self.keep(Word::Sign(c));
                self.advance();
            }
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.advance();
                    continue;
                }
            }
            self.advance_by(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.advance();
        while self.at < self.text.len() && self.peek(0) != '"' {
            self.advance_by(if self.peek(0) == '\\' { 2 } else { 1 });
        }
        self.advance();
    }

    fn raw_string(&mut self, hashes: usize) {
        self.advance_by(hashes + 1);
        while self.at < self.text.len() {
            let closes = self.peek(0) == '"' && (1..=hashes).all(|i| self.peek(i) == '#');
            self.advance();
            if closes {
                return self.advance_by(hashes);
            }
        }
    }

    fn character_or_lifetime(&mut self) {
        self.advance();
        if self.peek(0) == '\\' {
            self.advance_by(2);
            self.advance_while(|c| c != '\'');
            self.advance();
        } else if self.peek(1) == '\'' {
            self.advance_by(2);
        } else {
            self.advance_while(|c| c.is_alphanumeric() || c == '_');
        }
    }

    fn name(&mut self) {
        let start = self.at;
        self.advance_while(|c| c.is_alphanumeric() || c == '_');
        let name: String = self.text[start..self.at].iter().collect();
        let hashes = (0..).take_while(|i| self.peek(*i) == '#').count();
        let quoted = self.peek(hashes) == '"';
        match name.as_str() {
            "r" | "br" | "cr" if quoted => self.raw_string(hashes),
            "b" | "c" if hashes == 0 && quoted => self.string(),
            "b" if self.peek(0) == '\'' => self.character_or_lifetime(),
            "r" if hashes == 1 => self.advance(),
            _ => self.keep(Word::Name(name)),
        }
    }
}
