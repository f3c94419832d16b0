//! DSSE, the envelope in which stewards sign: <https://github.com/secure-systems-lab/dsse>, version 1.

use crate::keys::KeyId;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bytes of an envelope as JSON.
pub const ENVELOPE_SIZE_MAX: usize = 256 << 10;
/// Signatures in one envelope.
pub const SIGNATURES_MAX: usize = 64;

/// Bytes of a type, and signatures over both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What the payload is: a media type. It is part of what is signed.
    pub payload_type: String,
    /// What is signed.
    pub payload: Vec<u8>,
    /// Who signed. The names are hints: nothing is believed before the signature was checked with the named key.
    pub signatures: Vec<Signature>,
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whose; nothing if the envelope names no key in a form that this format has.
    pub key: Option<KeyId>,
    /// The signature.
    pub bytes: Vec<u8>,
}

/// Why bytes are no envelope.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// It is larger than [`ENVELOPE_SIZE_MAX`].
    #[error("the envelope has {found} bytes; at most {ENVELOPE_SIZE_MAX} are read")]
    TooLarge {
        /// How many.
        found: usize,
    },
    /// It has more than [`SIGNATURES_MAX`].
    #[error("the envelope has {found} signatures; at most {SIGNATURES_MAX} are read")]
    TooManySignatures {
        /// How many.
        found: usize,
    },
    /// It is not the JSON of an envelope.
    #[error("not a DSSE envelope: {0}")]
    Json(String),
    /// A field is not base64.
    #[error("not a DSSE envelope: `{0}` is not base64")]
    Base64(&'static str),
}

/// What is signed: the pre-authentication encoding of a type and a payload.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The JSON form. Unknown fields are ignored, as the specification asks: nothing outside the payload is trusted.
#[derive(Serialize, Deserialize)]
struct Json {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<JsonSignature>,
}

#[derive(Serialize, Deserialize)]
struct JsonSignature {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    keyid: String,
    sig: String,
}

impl Envelope {
    /// An envelope that nobody signed yet.
    pub fn unsigned(payload_type: &str, payload: Vec<u8>) -> Self {
        Self { payload_type: payload_type.to_owned(), payload, signatures: Vec::new() }
    }

    /// What each signature is over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }

    /// Adds a signature, in place of an earlier one by the same key.
    pub fn add(&mut self, key: KeyId, bytes: Vec<u8>) {
        self.signatures.retain(|signature| signature.key != Some(key));
        self.signatures.push(Signature { key: Some(key), bytes });
    }

    /// Reads an envelope. Nothing in it is trusted yet.
    ///
    /// # Errors
    /// If it is none, or too large.
    pub fn from_json(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_SIZE_MAX {
            return Err(EnvelopeError::TooLarge { found: bytes.len() });
        }
        let json: Json = serde_json::from_slice(bytes).map_err(|error| EnvelopeError::Json(error.to_string()))?;
        if json.signatures.len() > SIGNATURES_MAX {
            return Err(EnvelopeError::TooManySignatures { found: json.signatures.len() });
        }
        let decode = |field, text: &str| {
            // The specification allows either alphabet.
            STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| EnvelopeError::Base64(field))
        };
        let signature = |signature: JsonSignature| {
            Ok(Signature { key: signature.keyid.parse().ok(), bytes: decode("sig", &signature.sig)? })
        };
        Ok(Self {
            payload: decode("payload", &json.payload)?,
            payload_type: json.payload_type,
            signatures: json.signatures.into_iter().map(signature).collect::<Result<_, _>>()?,
        })
    }

    /// The JSON form, on one line.
    pub fn to_json(&self) -> Vec<u8> {
        let signature = |signature: &Signature| JsonSignature {
            keyid: signature.key.map(|key| key.to_string()).unwrap_or_default(),
            sig: STANDARD.encode(&signature.bytes),
        };
        let json = Json {
            payload_type: self.payload_type.clone(),
            payload: STANDARD.encode(&self.payload),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        serde_json::to_vec(&json).expect("strings become JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_model::Digest;

    /// The specification's own example.
    #[test]
    fn the_encoding_is_that_of_the_specification() {
        let encoded = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    }

    #[test]
    fn envelopes_are_read_as_they_are_written() {
        let mut envelope = Envelope::unsigned("t/x", b"\xff payload".to_vec());
        envelope.add(KeyId(Digest([1; 32])), vec![9; 64]);
        envelope.add(KeyId(Digest([2; 32])), vec![8; 64]);
        assert_eq!(Envelope::from_json(&envelope.to_json()), Ok(envelope.clone()));
        envelope.add(KeyId(Digest([1; 32])), vec![7; 64]);
        let keys: Vec<_> = envelope.signatures.iter().map(|signature| signature.bytes[0]).collect();
        assert_eq!(keys, [8, 7], "a key signs once");
    }

    #[test]
    fn other_writers_are_read_too() {
        let text = r#"{ "payload": "-_-_", "payloadType": "t", "extra": 1,
            "signatures": [{ "sig": "+/+/", "cert": "x" }, { "keyid": "mine", "sig": "" }] }"#;
        let envelope = Envelope::from_json(text.as_bytes()).unwrap();
        assert_eq!(envelope.payload, [0xfb, 0xff, 0xbf]);
        let keys: Vec<_> = envelope.signatures.iter().map(|signature| signature.key).collect();
        assert_eq!(keys, [None, None]);
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let refused = |text: &str| Envelope::from_json(text.as_bytes()).unwrap_err();
        for text in ["", "[]", "{}", r#"{"payload":"","payloadType":"t","signatures":[]} x"#] {
            assert!(matches!(refused(text), EnvelopeError::Json(_)), "{text}");
        }
        let twice = r#"{"payload":"","payload":"","payloadType":"t","signatures":[]}"#;
        assert!(matches!(refused(twice), EnvelopeError::Json(_)), "a field twice means two things to two readers");
        let bad = r#"{"payload":"?","payloadType":"t","signatures":[]}"#;
        assert_eq!(refused(bad), EnvelopeError::Base64("payload"));
        let bad = r#"{"payload":"","payloadType":"t","signatures":[{"sig":"?"}]}"#;
        assert_eq!(refused(bad), EnvelopeError::Base64("sig"));
        let many = vec![r#"{"sig":""}"#; 65].join(",");
        let many = format!(r#"{{"payload":"","payloadType":"t","signatures":[{many}]}}"#);
        assert_eq!(refused(&many), EnvelopeError::TooManySignatures { found: 65 });
        assert_eq!(refused(&" ".repeat(262_145)), EnvelopeError::TooLarge { found: 262_145 });
    }
}
