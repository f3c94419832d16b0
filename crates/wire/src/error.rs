//! Why bytes could not be decoded.

use thiserror::Error;

/// Why bytes could not be decoded. Fields are named as in the `.proto` files, `message.field`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The sender speaks another version.
    #[error(
        "cannot read {message}: it is version {found} and this release reads version {supported}; \
         use the same release of caii on both sides"
    )]
    Version {
        /// Which message.
        message: &'static str,
        /// The version it says it has; 0 when it says none.
        found: u64,
        /// The version that this release reads.
        supported: u32,
    },
    /// The whole is larger than allowed.
    #[error("cannot read {message}: it has {found} bytes and at most {max} are allowed")]
    Size {
        /// Which message.
        message: &'static str,
        /// Its size.
        found: usize,
        /// The largest size.
        max: usize,
    },
    /// The bytes are no encoding of such a message: cut off, damaged or something else altogether.
    #[error("cannot read {message}: the bytes are damaged or something else")]
    Malformed {
        /// Which message.
        message: &'static str,
        /// What the decoder met; nothing when the message's frame is broken already.
        #[source]
        source: Option<prost::DecodeError>,
    },
    /// A field that must be there is not.
    #[error("`{field}` is missing")]
    Missing {
        /// Which field.
        field: &'static str,
    },
    /// A field of fixed size has another one.
    #[error("`{field}` has {found} bytes instead of {expected}")]
    Width {
        /// Which field.
        field: &'static str,
        /// Its size.
        found: usize,
        /// The only right size.
        expected: usize,
    },
    /// A text or blob is too long, or a list has too many entries.
    #[error("`{field}` has {found} bytes or entries and at most {max} are allowed")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its length.
        found: usize,
        /// The largest length.
        max: usize,
    },
    /// A choice that this release does not know.
    #[error("`{field}` is {found}, which this release does not know")]
    Choice {
        /// Which field.
        field: &'static str,
        /// Its number.
        found: i32,
    },
    /// A field breaks a rule of its own.
    #[error("`{field}` is not acceptable: {reason}")]
    Rule {
        /// Which field.
        field: &'static str,
        /// What would be right.
        reason: &'static str,
    },
}
