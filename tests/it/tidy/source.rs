//! Rust source as the rules see it: without comments, without what strings say, without test
//! modules.

/// One file.
pub(super) struct Source {
    /// From the top of the repository, e.g. `src/store/sqlite.rs`.
    pub(super) path: String,
    /// As it was written.
    pub(super) text: String,
    /// Comments and the insides of strings are blanks; lines are as they were.
    pub(super) code: String,
    /// As `code`, and items under `#[cfg(test)]` are blanks too.
    pub(super) shipped: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = without_words(text);
        let mut source = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            shipped: without_tests(&code),
            code,
        };
        if source.is_tests() {
            source.shipped.clear();
        }
        source
    }

    /// Whether it is a room's unit tests in a file of their own, `tests.rs`.
    pub(super) fn is_tests(&self) -> bool {
        self.path.starts_with("src/") && self.path.ends_with("/tests.rs")
    }

    /// The folder or file of `src/` that it belongs to: `store` for `src/store.rs` and for
    /// `src/store/row.rs`. None outside `src/`.
    pub(super) fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// Its names and marks that ship, each with its line: `crate`, `::`, `key`, `{` …
    pub(super) fn tokens(&self) -> Vec<(usize, &str)> {
        let mut tokens = Vec::new();
        for (number, line) in self.shipped.lines().enumerate() {
            let mut rest = line;
            while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
                rest = &rest[start..];
                let word = |c: char| c.is_alphanumeric() || c == '_';
                let length = match rest.find(|c| !word(c)) {
                    None => rest.len(),
                    Some(0) if rest.starts_with("::") => 2,
                    Some(0) => rest.chars().next().map_or(1, char::len_utf8),
                    Some(length) => length,
                };
                let (token, after) = rest.split_at(length);
                tokens.push((number + 1, token));
                rest = after;
            }
        }
        tokens
    }
}

/// Blanks out comments and the insides of string and character literals.
fn without_words(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = word_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            let blank = |c: &char| if *c == '\n' { '\n' } else { ' ' };
            out.extend(chars[at..end].iter().map(blank));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` itself if none does.
fn word_end(chars: &[char], at: usize) -> usize {
    let is = |offset: usize, c: char| chars.get(at + offset) == Some(&c);
    let until = |from: usize, pattern: &[char]| {
        (from..chars.len())
            .find(|start| chars[*start..].starts_with(pattern))
            .map_or(chars.len(), |start| start + pattern.len())
    };
    let starts_word = at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if is(0, '/') && is(1, '/') {
        until(at, &['\n']) - 1
    } else if is(0, '/') && is(1, '*') {
        until(at + 2, &['*', '/'])
    } else if is(0, '"') {
        let mut end = at + 1;
        while end < chars.len() && chars[end] != '"' {
            end += if chars[end] == '\\' { 2 } else { 1 };
        }
        (end + 1).min(chars.len())
    } else if is(0, 'r') && starts_word && (is(1, '"') || is(1, '#')) {
        let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
        if chars.get(at + 1 + hashes) == Some(&'"') {
            let close: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
            until(at + 2 + hashes, &close)
        } else {
            at
        }
    } else if is(0, '\'') && is(1, '\\') {
        until(at + 3, &['\''])
    } else if is(0, '\'') && is(2, '\'') {
        at + 3
    } else {
        at
    }
}

/// Blanks out the items that follow `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    while let Some(start) = out.find(MARK) {
        let mut depth = 0_usize;
        let after = &out[start + MARK.len()..];
        let end = after.char_indices().find_map(|(at, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            (depth == 0 && (c == ';' || c == '}')).then_some(at + 1)
        });
        let end = start + MARK.len() + end.unwrap_or(after.len());
        let blanks: String =
            out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blanks);
    }
    out
}

#[test]
fn comments_strings_and_tests_are_not_seen() {
    let source = Source::new(
        "src/key.rs",
        "use crate::a; // crate::b\n/* crate::c */ let s = \"crate::d \\\" crate::e\";\n\
         let r = r#\"crate::f \" \"#; let c = '\"'; let l: &'static str = s;\nuse crate::g;\n\
         #[cfg(test)]\nmod tests { use crate::h; fn f() { {} } }\nuse crate::i;\n",
    );
    assert_eq!(source.text.lines().count(), source.shipped.lines().count());
    let seen: Vec<&str> = ('a'..='i')
        .zip(["a", "b", "c", "d", "e", "f", "g", "h", "i"])
        .filter(|(name, _)| source.shipped.contains(&format!("crate::{name}")))
        .map(|(_, name)| name)
        .collect();
    assert_eq!(seen, ["a", "g", "i"]);
    assert!(source.code.contains("crate::h"));
    assert_eq!(Source::new("src/key/tests.rs", "use crate::a;").shipped, "");
    assert_eq!(source.room(), Some("key"));
}
