//! What the text formats have in common: numbers and digests with one spelling each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use caii_model::Digest;

/// A decimal without sign and leading zeros.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && !text.is_empty());
    (canonical && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Standard base64 with padding; bits that no byte takes must be zero.
pub(crate) fn parse_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A SHA-256 digest as base64.
pub(crate) fn parse_digest(text: &str) -> Option<Digest> {
    // Checked before it is decoded: a line may be as long as its file.
    if text.len() != 44 {
        return None;
    }
    parse_base64(text)?.try_into().ok().map(Digest)
}

/// The first characters of what somebody else wrote, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(parse_decimal("0"), Some(0));
        assert_eq!(parse_decimal("18446744073709551615"), Some(u64::MAX));
        for bad in ["", "00", "01", "+1", "-1", " 1", "1 ", "1e3", "0x1", "١", "18446744073709551616"] {
            assert_eq!(parse_decimal(bad), None, "{bad}");
        }
    }

    #[test]
    fn digests_have_one_spelling() {
        let digest = Digest::of(b"x");
        let text = base64(&digest.0);
        assert_eq!(parse_digest(&text), Some(digest));
        // 32 bytes leave two bits of the last digit unused.
        let other = format!("{}{}=", &text[..42], char::from(text.as_bytes()[42] + 1));
        for bad in [&text[..43], &format!("{text}="), &text.replace('=', "A"), &other, "", &base64(&[0; 31])] {
            assert_eq!(parse_digest(bad), None, "{bad}");
        }
    }
}
