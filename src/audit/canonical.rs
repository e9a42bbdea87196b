//! Canonical JSON (RFC 8785), as much of it as the record needs: one object of strings and whole
//! numbers.
//!
//! Of RFC 8785's three hard parts, two cannot come up. Numbers are whole and below 2^53, so they
//! are written as every JSON writer writes them; names are ASCII, so their order by UTF-16 code
//! units is their order by bytes. The third, how strings are escaped, is written out here.

/// The largest number that every JSON reader takes for what it is (RFC 7493 section 2.2).
pub(super) const NUMBER_MAX: u64 = (1 << 53) - 1;

/// An object that is being written. Its members are to come in the order of their names.
#[derive(Debug)]
pub(super) struct Object {
    text: String,
    last: &'static str,
}

impl Object {
    pub(super) fn new() -> Self {
        Self { text: String::with_capacity(512), last: "" }
    }

    /// A member whose value is `value`; one that is empty is left out.
    pub(super) fn text(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() {
            self.name(name);
            quote(value, &mut self.text);
        }
    }

    /// A member whose value is a whole number of at most [`NUMBER_MAX`].
    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        self.text.push_str(&value.to_string());
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push_str(if self.text.is_empty() { "{}" } else { "}" });
        self.text
    }

    fn name(&mut self, name: &'static str) {
        debug_assert!(self.last < name, "{name} comes after {}", self.last);
        self.last = name;
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        quote(name, &mut self.text);
        self.text.push(':');
    }
}

/// Writes `value` as RFC 8785 section 3.2.2.2 has it: the two-character escapes where JSON has
/// one, `\u00…` for other control characters, everything else as it is.
fn quote(value: &str, text: &mut String) {
    text.push('"');
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|c| c < b' ' || c == b'"' || c == b'\\') {
        let (plain, special) = rest.split_at(at);
        text.push_str(plain);
        let mut after = special.chars();
        match after.next() {
            Some('"') => text.push_str("\\\""),
            Some('\\') => text.push_str("\\\\"),
            Some('\u{8}') => text.push_str("\\b"),
            Some('\t') => text.push_str("\\t"),
            Some('\n') => text.push_str("\\n"),
            Some('\u{c}') => text.push_str("\\f"),
            Some('\r') => text.push_str("\\r"),
            Some(control) => text.push_str(&format!("\\u{:04x}", u32::from(control))),
            None => {}
        }
        rest = after.as_str();
    }
    text.push_str(rest);
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 8785 section 3.2.2, the string of its example, and its canonical form in 3.2.4.
    #[test]
    fn the_string_of_the_rfcs_example_comes_out_as_its_bytes() {
        let mut object = Object::new();
        object.text("string", "\u{20ac}$\u{f}\nA'B\"\\\\\"/");
        let expected = b"{\"string\":\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(object.finish().as_bytes(), expected);
    }

    #[test]
    fn every_control_character_has_the_escape_of_the_rfc() {
        let mut text = String::new();
        quote(
            &(0..=0x20).map(char::from).chain(['\u{7f}', '\u{2028}']).collect::<String>(),
            &mut text,
        );
        let expected = "\"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\
            \\u000b\\f\\r\\u000e\\u000f\\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\
            \\u0018\\u0019\\u001a\\u001b\\u001c\\u001d\\u001e\\u001f \u{7f}\u{2028}\"";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_object_holds_what_was_put_in_and_leaves_out_what_is_empty() {
        let mut object = Object::new();
        object.text("a", "x");
        object.text("b", "");
        object.number("c", NUMBER_MAX);
        assert_eq!(object.finish(), r#"{"a":"x","c":9007199254740991}"#);
        assert_eq!(Object::new().finish(), "{}");
    }

    proptest! {
        #[test]
        fn whatever_the_text_a_json_reader_reads_it_back(text in any::<String>()) {
            let mut quoted = String::new();
            quote(&text, &mut quoted);
            prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text.clone());
            prop_assert_eq!(serde_json::to_string(&text).unwrap(), quoted);
        }
    }
}
