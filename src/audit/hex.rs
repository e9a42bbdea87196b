//! Lower-case hex, the one form in which hashes stand in the record: a hash has one spelling, so
//! that no bit of a line can change without its meaning changing.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// `bytes` in lower-case hex.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(DIGITS.get(usize::from(nibble)).map_or('?', |digit| char::from(*digit)));
        }
    }
    text
}

/// The bytes that `text` stands for; none if it is not lower-case hex of whole bytes.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_string_has_one_spelling() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = encode(&bytes);
        assert!(text.starts_with("000102") && text.ends_with("fdfeff"));
        assert_eq!(decode(&text), Some(bytes));
        for wrong in ["0", "0A", "0g", " 0", "é0"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
