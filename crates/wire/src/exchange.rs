//! The one conversation between an agent and its coordinator, with small blobs inside it.

use crate::convert::{at_most, digest, fixed, required};
use crate::open::{Frame, VERSION};
use crate::refusal::refused;
use crate::{DecodeError, limits, proto};
use caii_model::{
    BootId, DeviceId, Digest, ExchangeReply, ExchangeRequest, LeaseId, MeterId, Millis, Refusal, Report, SessionId,
    Timestamp,
};
use prost::Message as _;
use std::collections::BTreeMap;
use zeroize::Zeroize as _;

/// Blobs that travel inside an exchange, by their digests. Only the bytes are sent: the receiver computes the digests,
/// so a blob can never stand under a wrong one. Limits: [`limits::ATTACHMENT_MAX`], [`limits::ATTACHMENTS_MAX`] and
/// [`limits::ATTACHMENTS_BYTES_MAX`].
pub type Attachments = BTreeMap<Digest, Vec<u8>>;

const REQUEST: Frame = Frame {
    message: "ExchangeRequest",
    size_max: limits::EXCHANGE_MAX,
    lists: &[
        (10, "ExchangeRequest.holding", limits::LEASES_MAX),
        (11, "ExchangeRequest.reports", limits::REPORTS_MAX),
        (12, "ExchangeRequest.ready", limits::READY_MAX),
        (13, "ExchangeRequest.attachments", limits::ATTACHMENTS_MAX),
    ],
};

const REPLY: Frame = Frame {
    message: "ExchangeReply",
    size_max: limits::EXCHANGE_MAX,
    lists: &[
        (6, "ExchangeReply.leases", limits::LEASES_MAX),
        (7, "ExchangeReply.acks", limits::REPORTS_MAX),
        (8, "ExchangeReply.dropped", limits::LEASES_MAX),
        (9, "ExchangeReply.attachments", limits::ATTACHMENTS_MAX),
    ],
};

/// The body of an exchange's envelope. The device is not in it: it is the envelope's. No copy of the attachments is left
/// behind.
pub fn encode_exchange_request(request: &ExchangeRequest, attachments: &Attachments) -> Vec<u8> {
    let mut message = proto::ExchangeRequest {
        version: VERSION,
        boot: request.boot.map(|boot| boot.0.to_vec()),
        session: request.session.map(|session| session.0.to_vec()),
        sequence: request.sequence,
        settled_sequence: request.settled_sequence,
        meter: request.meter.0.0.to_vec(),
        slots_free: request.slots_free,
        slots: request.slots,
        wait_ms: request.wait.0,
        holding: request.holding.iter().map(Into::into).collect(),
        reports: request.reports.iter().map(Into::into).collect(),
        ready: request.ready.iter().map(|workload| workload.0.to_vec()).collect(),
        attachments: attachments.values().cloned().collect(),
        replaces: request.replaces.map(|session| session.0.to_vec()),
        challenge: request.challenge,
    };
    let bytes = message.encode_to_vec();
    message.attachments.zeroize();
    bytes
}

/// What the device of the envelope says, and the blobs that came with it.
pub fn decode_exchange_request(device: DeviceId, body: &[u8]) -> Result<(ExchangeRequest, Attachments), DecodeError> {
    let message: proto::ExchangeRequest = REQUEST.open(body)?;
    let boot = message.boot.map(|boot| fixed("ExchangeRequest.boot", &boot)).transpose()?;
    let session = message.session.map(|session| fixed("ExchangeRequest.session", &session)).transpose()?;
    let replaces = message.replaces.map(|session| fixed("ExchangeRequest.replaces", &session)).transpose()?;
    let ready = message.ready.iter().map(|workload| digest("ExchangeRequest.ready", workload));
    let request = ExchangeRequest {
        device,
        boot: boot.map(BootId),
        session: session.map(SessionId),
        replaces: replaces.map(SessionId),
        sequence: message.sequence,
        settled_sequence: message.settled_sequence,
        meter: MeterId(digest("ExchangeRequest.meter", &message.meter)?),
        slots_free: message.slots_free,
        slots: message.slots,
        wait: Millis(message.wait_ms),
        holding: message.holding.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        reports: message.reports.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        ready: ready.collect::<Result<_, _>>()?,
        challenge: message.challenge,
    };
    Ok((request, receive("ExchangeRequest.attachments", message.attachments)?))
}

/// The bytes of a reply that refuses nothing; for one that does, see [`encode_refusal`](crate::encode_refusal).
pub fn encode_exchange_reply(reply: &ExchangeReply, attachments: &Attachments) -> Vec<u8> {
    let acks = reply.acks.iter().map(|(lease, outcome)| proto::Ack {
        lease: lease.0.to_vec(),
        refusal: outcome.as_ref().err().map(Into::into),
    });
    let message = proto::ExchangeReply {
        version: VERSION,
        refusal: None,
        session: reply.session.0.to_vec(),
        sequence: reply.sequence,
        now_ms: reply.now.0,
        leases: reply.leases.iter().map(Into::into).collect(),
        acks: acks.collect(),
        dropped: reply.dropped.iter().map(|lease| lease.0.to_vec()).collect(),
        attachments: attachments.values().cloned().collect(),
        governance: reply.governance,
        claims: reply.claims,
        challenge: reply.challenge,
    };
    message.encode_to_vec()
}

/// What a coordinator answered: a reply and the blobs that came with it, or a refusal, which is understood even when it
/// comes from another version.
pub fn decode_exchange_reply(bytes: &[u8]) -> Result<Result<(ExchangeReply, Attachments), Refusal>, DecodeError> {
    if let Some(refusal) = refused("ExchangeReply", limits::EXCHANGE_MAX, bytes)? {
        return Ok(Err(refusal));
    }
    let message: proto::ExchangeReply = REPLY.open(bytes)?;
    let acks = message.acks.into_iter().map(|ack| {
        let lease = LeaseId(fixed("Ack.lease", &ack.lease)?);
        Ok((lease, ack.refusal.map_or(Ok(()), |refusal| Err(refusal.into()))))
    });
    let dropped = message.dropped.iter().map(|lease| fixed("ExchangeReply.dropped", lease).map(LeaseId));
    let reply = ExchangeReply {
        session: SessionId(fixed("ExchangeReply.session", &message.session)?),
        sequence: message.sequence,
        now: Timestamp(message.now_ms),
        leases: message.leases.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        acks: acks.collect::<Result<_, _>>()?,
        dropped: dropped.collect::<Result<_, _>>()?,
        governance: message.governance,
        claims: message.claims,
        challenge: message.challenge,
    };
    Ok(Ok((reply, receive("ExchangeReply.attachments", message.attachments)?)))
}

fn receive(field: &'static str, blobs: Vec<Vec<u8>>) -> Result<Attachments, DecodeError> {
    for blob in &blobs {
        at_most(field, blob.len(), limits::ATTACHMENT_MAX)?;
    }
    at_most(field, blobs.iter().map(Vec::len).sum(), limits::ATTACHMENTS_BYTES_MAX)?;
    Ok(blobs.into_iter().map(|blob| (Digest::of(&blob), blob)).collect())
}

impl From<&Report> for proto::Report {
    fn from(report: &Report) -> Self {
        use proto::report::Outcome;
        let outcome = match &report.outcome {
            Ok(done) => Outcome::Done(done.into()),
            Err(failure) => Outcome::Failed(failure.into()),
        };
        Self {
            lease: Some((&report.lease).into()),
            outcome: Some(outcome),
            claim: report.claim.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::Report> for Report {
    type Error = DecodeError;

    fn try_from(report: proto::Report) -> Result<Self, DecodeError> {
        use proto::report::Outcome;
        let lease = required("Report.lease", report.lease)?.try_into()?;
        Ok(match (required("Report.outcome", report.outcome)?, report.claim) {
            (Outcome::Done(done), claim) => {
                let claim = required("Report.claim", claim)?.try_into()?;
                Self { lease, outcome: Ok(done.try_into()?), claim: Some(claim) }
            }
            (Outcome::Failed(failure), None) => {
                Self { lease, outcome: Err(failure.into_model(limits::DETAIL_MAX)?), claim: None }
            }
            (Outcome::Failed(_), Some(_)) => {
                return Err(DecodeError::Rule { field: "Report.claim", reason: "only a result has one" });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Envelope, RequestKind, decode_enrol_reply, decode_enrol_request, decode_envelope, decode_manifest};
    use crate::{decode_refusal, decode_task_result, encode_envelope, encode_refusal};
    use caii_model::{AttemptFailure, AttemptFailureKind, SignedClaim};
    use proptest::prelude::*;

    const DEVICE: DeviceId = DeviceId([5; 8]);

    fn decode_request(body: &[u8]) -> Result<(ExchangeRequest, Attachments), DecodeError> {
        decode_exchange_request(DEVICE, body)
    }

    fn encode_request((request, attachments): &(ExchangeRequest, Attachments)) -> Vec<u8> {
        encode_exchange_request(request, attachments)
    }

    fn encode_reply(reply: &Result<(ExchangeReply, Attachments), Refusal>) -> Vec<u8> {
        match reply {
            Ok((reply, attachments)) => encode_exchange_reply(reply, attachments),
            Err(refusal) => encode_refusal(refusal),
        }
    }

    proptest! {
        #[test]
        fn requests_round_trip(request in exchange_request(DEVICE), attachments in attachments()) {
            check_codec(&(request, attachments), encode_request, decode_request);
        }

        #[test]
        fn replies_round_trip(reply in exchange_reply(), attachments in attachments()) {
            check_codec(&Ok((reply, attachments)), encode_reply, decode_exchange_reply);
        }

        /// Damage anywhere in a real message is refused or gives another value; nothing panics.
        #[test]
        fn damage_is_survived(
            request in exchange_request(DEVICE),
            reply in exchange_reply(),
            at: prop::sample::Index,
            byte: u8,
            cut: prop::sample::Index,
        ) {
            for mut bytes in [encode_exchange_request(&request, &Attachments::new()),
                              encode_exchange_reply(&reply, &Attachments::new())] {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                decode_all(&bytes);
                bytes.truncate(cut.index(bytes.len()));
                decode_all(&bytes);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            decode_all(&bytes);
            // With a version in front more of them are looked at.
            decode_all(&[vec![8, 1], bytes].concat());
        }
    }

    fn decode_all(bytes: &[u8]) {
        let _ = decode_request(bytes);
        let _ = decode_exchange_reply(bytes);
        let _ = decode_envelope(bytes);
        let _ = decode_enrol_request(bytes);
        let _ = decode_enrol_reply(bytes);
        let _ = decode_manifest(bytes);
        let _ = decode_task_result(bytes);
        let _ = decode_refusal(bytes);
    }

    #[test]
    fn every_failure_round_trips() {
        use AttemptFailureKind::*;
        for kind in [
            DeviceLost,
            DeviceForgot,
            GivenBack,
            LeaseExpired,
            RunnerDied,
            ItemTooSlow,
            PreparationFailed,
            BlobUnavailable,
            DiskFull,
            MalformedResult,
            Uncertified,
        ] {
            let failure = AttemptFailure { kind, detail: "why".into() };
            let reports = vec![Report { lease: sample_lease(), outcome: Err(failure), claim: None }];
            let request = (ExchangeRequest { reports, ..sample_request(DEVICE) }, Attachments::new());
            assert_eq!(decode_request(&encode_request(&request)), Ok(request));
        }
    }

    #[test]
    fn a_result_has_a_claim_and_a_failure_has_none() {
        let failed = Err(AttemptFailure { kind: AttemptFailureKind::RunnerDied, detail: String::new() });
        for (report, expected) in [
            (Report { claim: None, ..sample_result() }, DecodeError::Missing { field: "Report.claim" }),
            (
                Report { outcome: failed, ..sample_result() },
                DecodeError::Rule { field: "Report.claim", reason: "only a result has one" },
            ),
            (
                Report { claim: Some(SignedClaim { sequence: 0, ..sample_claim() }), ..sample_result() },
                DecodeError::Missing { field: "SignedClaim.sequence" },
            ),
        ] {
            let request = ExchangeRequest { reports: vec![report], ..sample_request(DEVICE) };
            assert_eq!(decode_request(&encode_exchange_request(&request, &Attachments::new())), Err(expected));
        }
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut body = encode_request(&(sample_request(DEVICE), Attachments::new()));
        assert_eq!(body[..2], [8, 1], "the version stands first");
        body[1] = 2;
        let error = decode_request(&body).unwrap_err();
        assert_eq!(error, DecodeError::Version { message: "ExchangeRequest", found: 2, supported: 1 });
        assert_eq!(
            error.to_string(),
            "cannot read ExchangeRequest: it is version 2 and this release reads version 1; use the same release of caii on both sides"
        );
        // Even when nothing after the version is as this release would have it.
        let error = decode_request(&[8, 3, 0x12, 1, 0xff, 0x53, 0x54]).unwrap_err();
        assert!(matches!(error, DecodeError::Malformed { .. }), "groups are damage in any version: {error}");
        let error = decode_request(&[8, 3, 0x52, 1, 0xff]).unwrap_err();
        assert!(matches!(error, DecodeError::Version { found: 3, .. }), "{error}");
        let error = decode_request(&body[2..]).unwrap_err();
        assert!(matches!(error, DecodeError::Version { found: 0, .. }), "{error}");
    }

    #[test]
    fn a_refusal_is_understood_from_any_version() {
        let refusal = Refusal::BootChanged(BootId([9; 16]));
        let mut bytes = encode_refusal(&refusal);
        assert_eq!(bytes[..2], [8, 1]);
        bytes[1] = 77;
        assert_eq!(decode_exchange_reply(&bytes), Ok(Err(refusal.clone())));
        assert_eq!(decode_enrol_reply(&bytes), Ok(Err(refusal)));
    }

    #[test]
    fn unknown_fields_are_ignored() {
        // Field 200, a text, as a later release might add it.
        let later = [0xc2, 0x0c, 3, b'n', b'e', b'w'];
        let expected = (sample_request(DEVICE), Attachments::new());
        let mut body = encode_request(&expected);
        body.extend(later);
        assert_eq!(decode_request(&body), Ok(expected));

        let envelope =
            Envelope { device: DEVICE, kind: RequestKind::Exchange, body: b"body".to_vec(), signature: [1; 64] };
        let mut bytes = encode_envelope(&envelope);
        bytes.extend(later);
        assert_eq!(decode_envelope(&bytes), Ok(envelope));
    }

    #[test]
    fn every_limit_is_kept() {
        let base = sample_request(DEVICE);
        let refuse = |request: ExchangeRequest, attachments: Attachments, field: &str| match decode_request(
            &encode_exchange_request(&request, &attachments),
        ) {
            Err(DecodeError::TooLong { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {:?}", other.err()),
        };
        let holding = vec![sample_lease(); limits::LEASES_MAX + 1];
        refuse(ExchangeRequest { holding, ..base.clone() }, Attachments::new(), "ExchangeRequest.holding");
        let report = |detail: String| Report {
            lease: sample_lease(),
            outcome: Err(AttemptFailure { kind: AttemptFailureKind::GivenBack, detail }),
            claim: None,
        };
        let reports = vec![report(String::new()); limits::REPORTS_MAX + 1];
        refuse(ExchangeRequest { reports, ..base.clone() }, Attachments::new(), "ExchangeRequest.reports");
        let reports = vec![report("x".repeat(limits::DETAIL_MAX + 1))];
        refuse(ExchangeRequest { reports, ..base.clone() }, Attachments::new(), "AttemptFailure.detail");
        let ready = vec![Digest([1; 32]); limits::READY_MAX + 1];
        refuse(ExchangeRequest { ready, ..base.clone() }, Attachments::new(), "ExchangeRequest.ready");
        let blobs = |count: usize, size: usize| -> Attachments {
            (0..count as u32)
                .map(|number| {
                    let mut blob = number.to_le_bytes().to_vec();
                    blob.resize(size, 0);
                    (Digest::of(&blob), blob)
                })
                .collect()
        };
        refuse(base.clone(), blobs(1, limits::ATTACHMENT_MAX + 1), "ExchangeRequest.attachments");
        refuse(base.clone(), blobs(limits::ATTACHMENTS_MAX + 1, 4), "ExchangeRequest.attachments");
        refuse(base.clone(), blobs(65, limits::ATTACHMENT_MAX), "ExchangeRequest.attachments");
        assert!(decode_request(&encode_exchange_request(&base, &blobs(64, limits::ATTACHMENT_MAX))).is_ok());

        let huge = vec![0; limits::EXCHANGE_MAX + 1];
        assert!(matches!(decode_request(&huge), Err(DecodeError::Size { .. })));
        assert!(matches!(decode_exchange_reply(&huge), Err(DecodeError::Size { .. })));
        assert!(matches!(decode_envelope(&huge), Err(DecodeError::Size { .. })));
        assert!(matches!(decode_enrol_request(&huge), Err(DecodeError::Size { .. })));
    }

    /// A full exchange fits: nobody who keeps each limit is refused for the sum.
    #[test]
    fn all_limits_together_fit() {
        let detail = "x".repeat(limits::DETAIL_MAX / 8);
        let failure = AttemptFailure { kind: AttemptFailureKind::GivenBack, detail };
        let request = ExchangeRequest {
            holding: vec![sample_lease(); limits::LEASES_MAX],
            reports: vec![Report { lease: sample_lease(), outcome: Err(failure), claim: None }; limits::REPORTS_MAX],
            ready: vec![Digest([1; 32]); limits::READY_MAX],
            ..sample_request(DEVICE)
        };
        let blob = |number: u32| {
            let mut blob = number.to_le_bytes().to_vec();
            blob.resize(limits::ATTACHMENTS_BYTES_MAX / limits::ATTACHMENTS_MAX, 0);
            (Digest::of(&blob), blob)
        };
        let full = (request, (0..limits::ATTACHMENTS_MAX as u32).map(blob).collect());
        let body = encode_request(&full);
        let envelope = Envelope { device: DEVICE, kind: RequestKind::Exchange, body, signature: [0; 64] };
        let bytes = encode_envelope(&envelope);
        assert_eq!(decode_request(&decode_envelope(&bytes).unwrap().body), Ok(full));
    }

    #[test]
    fn messages_of_the_first_release_are_read() {
        let reports = vec![sample_result()];
        let request = ExchangeRequest { reports, ..sample_request(DEVICE) };
        check_golden(&encode_exchange_request(&request, &Attachments::new()), "759 2a56e2d3104d");
        let refusal = Refusal::MeterForeign { expected: MeterId(Digest([1; 32])), found: MeterId(Digest([2; 32])) };
        check_golden(&encode_refusal(&refusal), "194 e07473fe08b3");
    }
}
