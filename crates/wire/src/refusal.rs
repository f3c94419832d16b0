//! Refusals on the wire: a code, words for people, and the values that the code's variant holds.

use crate::convert::fixed;
use crate::open::{Frame, VERSION};
use crate::{DecodeError, limits, proto};
use caii_model::{
    BootId, Bytes, DeviceId, Digest, FileId, JobId, KeyId, MeterId, Refusal, SessionId, TicketId, Timestamp,
};
use prost::Message as _;

/// A reply that is nothing but a refusal, whatever was asked.
pub fn encode_refusal(refusal: &Refusal) -> Vec<u8> {
    let message = proto::EnrolReply { version: VERSION, refusal: Some(refusal.into()), ..Default::default() };
    message.encode_to_vec()
}

/// The refusal in a reply of any version, where a refusal alone can be expected.
pub fn decode_refusal(bytes: &[u8]) -> Result<Refusal, DecodeError> {
    refused("Refusal", limits::REFUSAL_MAX, bytes)?.ok_or(DecodeError::Missing { field: "Refusal" })
}

/// The two fields that are the same in every reply of every version.
#[derive(Clone, PartialEq, prost::Message)]
struct ReplyHead {
    #[prost(message, optional, tag = "2")]
    refusal: Option<proto::Refusal>,
}

/// The refusal in a reply, if it is one.
pub(crate) fn refused(message: &'static str, size_max: usize, bytes: &[u8]) -> Result<Option<Refusal>, DecodeError> {
    let frame = Frame { message, size_max, lists: &[] };
    let head: ReplyHead = frame.open_unversioned(bytes)?;
    Ok(head.refusal.map(Into::into))
}

/// What `field`, `what` and `needed` can be in refusals that travel: the model has them as constants, so a receiver can
/// only have those that it knows. A refusal with another word arrives as its message alone.
const WORDS: &[&str] = &[
    "amount",
    "attachments",
    "batch",
    "blob",
    "body",
    "completion_window",
    "deadline",
    "device",
    "devices",
    "endpoint",
    "envelope",
    "expires",
    "file",
    "filename",
    "files",
    "input",
    "jobs",
    "keys",
    "leases held",
    "manifest",
    "metadata",
    "meter",
    "model",
    "models",
    "name",
    "open jobs of an account",
    "price",
    "proof",
    "public_key",
    "purpose",
    "records",
    "records_per_task",
    "report",
    "reports",
    "request",
    "result",
    "sequence",
    "session",
    "signature",
    "slots",
    "source",
    "tariff",
    "tasks",
    "tickets",
    "user_data",
    "uses",
    "version",
    "workload",
    "workloads",
];

fn known(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|known| **known == word).copied()
}

impl From<&Refusal> for proto::Refusal {
    fn from(refusal: &Refusal) -> Self {
        let plain = Self { code: refusal.code().to_owned(), message: refusal.to_string(), ..Self::default() };
        match refusal {
            Refusal::JobUnknown(JobId(subject))
            | Refusal::JobEnded(JobId(subject))
            | Refusal::FileUnknown(FileId(subject))
            | Refusal::KeyUnknown(KeyId(subject))
            | Refusal::KeyLastAdmin(KeyId(subject)) => Self { subject: *subject, ..plain },
            Refusal::FilePurpose { file, needed } => Self { subject: file.0, what: (*needed).to_owned(), ..plain },
            Refusal::FileInUse(file, job) => Self { subject: file.0, number: job.0, ..plain },
            Refusal::WorkloadUnknown(digest) => Self { subject_bytes: digest.0.to_vec(), ..plain },
            Refusal::MeterForeign { expected, found } => {
                Self { subject_bytes: expected.0.0.to_vec(), found: found.0.0.to_vec(), ..plain }
            }
            Refusal::ManifestInvalid(text)
            | Refusal::ModelUnknown(text)
            | Refusal::ModelExists(text)
            | Refusal::NoDevice { reason: text } => Self { text: text.clone(), ..plain },
            Refusal::TicketExpired(ticket, at) => Self { subject: ticket.0, number: at.0, ..plain },
            Refusal::TicketSpent(ticket, uses) => Self { subject: ticket.0, number: u64::from(*uses), ..plain },
            Refusal::DeviceUnknown(device) | Refusal::DeviceConvicted(device) | Refusal::LeaseForeign(device) => {
                Self { subject_bytes: device.0.to_vec(), ..plain }
            }
            Refusal::BootChanged(boot) => Self { subject_bytes: boot.0.to_vec(), ..plain },
            Refusal::SessionHeld(session) => Self { subject_bytes: session.0.to_vec(), ..plain },
            Refusal::SequenceStale { last: number } | Refusal::ClaimSequence { expected: number } => {
                Self { number: *number, ..plain }
            }
            Refusal::PriceAboveLimit { price: one, limit: other }
            | Refusal::CreditsInsufficient { needed: one, balance: other } => {
                Self { subject: one.0.cast_unsigned(), number: other.0.cast_unsigned(), ..plain }
            }
            Refusal::LeaseExpired(at) => Self { number: at.0, ..plain },
            Refusal::FieldInvalid { field, reason } => {
                Self { what: (*field).to_owned(), text: reason.clone(), ..plain }
            }
            Refusal::TooMany { what, limit } => Self { what: (*what).to_owned(), number: *limit, ..plain },
            Refusal::TooLarge { what, limit } => Self { what: (*what).to_owned(), number: limit.0, ..plain },
            Refusal::TicketUnknown
            | Refusal::SessionUnknown
            | Refusal::SessionSuperseded
            | Refusal::LeaseForged
            | Refusal::TaskSettled => plain,
        }
    }
}

impl From<proto::Refusal> for Refusal {
    /// A refusal that this release does not know, or not quite, must still reach the person that it concerns: it
    /// becomes [`Refusal::FieldInvalid`] of the `request`, with the sender's own code and words.
    fn from(refusal: proto::Refusal) -> Self {
        typed(&refusal).unwrap_or_else(|| {
            let proto::Refusal { code, message, .. } = refusal;
            Self::FieldInvalid { field: "request", reason: format!("{message} [{code}]") }
        })
    }
}

/// The variant with this code, if this release has it and its values fit.
fn typed(refusal: &proto::Refusal) -> Option<Refusal> {
    let proto::Refusal { subject, number, text, .. } = refusal;
    let (subject, number) = (*subject, *number);
    let amount = |bits: u64| caii_model::MicroCredits(bits.cast_signed());
    let digest = |bytes: &[u8]| fixed("Refusal", bytes).ok().map(Digest);
    let device = || fixed("Refusal", &refusal.subject_bytes).ok().map(DeviceId);
    let what = || known(&refusal.what);
    Some(match refusal.code.as_str() {
        "job-unknown" => Refusal::JobUnknown(JobId(subject)),
        "job-ended" => Refusal::JobEnded(JobId(subject)),
        "file-unknown" => Refusal::FileUnknown(FileId(subject)),
        "file-purpose" => Refusal::FilePurpose { file: FileId(subject), needed: what()? },
        "file-in-use" => Refusal::FileInUse(FileId(subject), JobId(number)),
        "workload-unknown" => Refusal::WorkloadUnknown(digest(&refusal.subject_bytes)?),
        "manifest-invalid" => Refusal::ManifestInvalid(text.clone()),
        "meter-foreign" => Refusal::MeterForeign {
            expected: MeterId(digest(&refusal.subject_bytes)?),
            found: MeterId(digest(&refusal.found)?),
        },
        "model-unknown" => Refusal::ModelUnknown(text.clone()),
        "model-exists" => Refusal::ModelExists(text.clone()),
        "key-unknown" => Refusal::KeyUnknown(KeyId(subject)),
        "key-last-admin" => Refusal::KeyLastAdmin(KeyId(subject)),
        "ticket-unknown" => Refusal::TicketUnknown,
        "ticket-expired" => Refusal::TicketExpired(TicketId(subject), Timestamp(number)),
        "ticket-spent" => Refusal::TicketSpent(TicketId(subject), u32::try_from(number).ok()?),
        "device-unknown" => Refusal::DeviceUnknown(device()?),
        "device-convicted" => Refusal::DeviceConvicted(device()?),
        "boot-changed" => Refusal::BootChanged(BootId(fixed("Refusal", &refusal.subject_bytes).ok()?)),
        "session-unknown" => Refusal::SessionUnknown,
        "session-held" => Refusal::SessionHeld(SessionId(fixed("Refusal", &refusal.subject_bytes).ok()?)),
        "session-superseded" => Refusal::SessionSuperseded,
        "sequence-stale" => Refusal::SequenceStale { last: number },
        "lease-forged" => Refusal::LeaseForged,
        "lease-foreign" => Refusal::LeaseForeign(device()?),
        "lease-expired" => Refusal::LeaseExpired(Timestamp(number)),
        "task-settled" => Refusal::TaskSettled,
        "claim-sequence" => Refusal::ClaimSequence { expected: number },
        "price-above-limit" => Refusal::PriceAboveLimit { price: amount(subject), limit: amount(number) },
        "credits-insufficient" => Refusal::CreditsInsufficient { needed: amount(subject), balance: amount(number) },
        "field-invalid" => Refusal::FieldInvalid { field: what()?, reason: text.clone() },
        "too-many" => Refusal::TooMany { what: what()?, limit: number },
        "too-large" => Refusal::TooLarge { what: what()?, limit: Bytes(number) },
        "no-device" => Refusal::NoDevice { reason: text.clone() },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_codec, every_refusal};

    #[test]
    fn every_refusal_round_trips() {
        let all = every_refusal();
        let codes: std::collections::BTreeSet<_> = all.iter().map(Refusal::code).collect();
        assert_eq!(codes, Refusal::CODES.into_iter().collect(), "a variant is not in the test");
        for refusal in &all {
            check_codec(refusal, encode_refusal, decode_refusal);
        }
    }

    #[test]
    fn every_word_round_trips() {
        assert!(WORDS.is_sorted(), "keep them sorted");
        for word in WORDS {
            let refusal = Refusal::TooMany { what: word, limit: 3 };
            assert_eq!(decode_refusal(&encode_refusal(&refusal)), Ok(refusal));
        }
    }

    #[test]
    fn an_unknown_refusal_still_speaks() {
        let newer = proto::Refusal { code: "moon-full".into(), message: "not tonight".into(), ..Default::default() };
        let reply = proto::EnrolReply { version: 9, refusal: Some(newer), ..Default::default() };
        let refusal = decode_refusal(&reply.encode_to_vec()).unwrap();
        assert_eq!(refusal.to_string(), "`request` is not acceptable: not tonight [moon-full]");

        let unknown_word = Refusal::TooMany { what: "phases of the moon", limit: 8 };
        let refusal = decode_refusal(&encode_refusal(&unknown_word)).unwrap();
        assert_eq!(
            refusal.to_string(),
            "`request` is not acceptable: too many phases of the moon: at most 8 are allowed [too-many]"
        );
    }
}
