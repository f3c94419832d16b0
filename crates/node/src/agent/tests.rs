//! The agent's shell against a small HTTPS server that can be told to misbehave: bytes, ranges, resumption, identity.

use super::cache::{BlobCache, FetchError};
use super::client::PoolClient;
use super::driver::fetch_input;
use super::home::Membership;
use super::testing::server::{Answer, Request, Server, answer};
use super::{AgentError, AgentEvent, AgentOptions, run_until};
use crate::pinned;
use caii_model::*;
use caii_trust::SigningKey;
use caii_wire::{Attachments, EnrolReply, JoinTicket, TicketSecret};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

impl Server {
    fn membership(&self, pool: &SigningKey) -> Membership {
        Membership {
            addresses: vec![self.address.clone()],
            certificate: self.certificate,
            pool: caii_trust::pool_id(&pool.public()),
            pool_public_key: pool.public(),
            charter: Digest([6; 32]),
        }
    }

    /// A client in a conversation.
    pub(super) fn client(&self) -> PoolClient {
        let (_, session) = watch::channel(Some(SessionId([7; 16])));
        PoolClient::new(&self.membership(&pool_key()), SigningKey::from_seed([1; 32]), session).unwrap()
    }

    fn ticket(&self) -> JoinTicket {
        JoinTicket {
            addresses: vec![self.address.clone()],
            certificate: self.certificate,
            pool: caii_trust::pool_id(&pool_key().public()),
            secret: TicketSecret([5; 16]),
            charter: Digest([6; 32]),
        }
    }
}

/// Serves one blob, honouring ranges.
fn serve_range(blob: &[u8], request: &Request) -> Answer {
    let Some(range) = request.headers.get("range") else { return answer(200, blob) };
    let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let from: usize = from.parse().unwrap();
    let to = to.parse::<usize>().map_or(blob.len(), |to| (to + 1).min(blob.len()));
    let content_range = format!("bytes {from}-{}/{}", to - 1, blob.len());
    Answer { headers: vec![("content-range", content_range)], ..answer(206, &blob[from..to]) }
}

fn pool_key() -> SigningKey {
    SigningKey::from_seed([9; 32])
}

fn blob() -> Vec<u8> {
    (0..100_000u32).flat_map(u32::to_le_bytes).collect()
}

async fn fetch(cache: &Arc<BlobCache>, server: &Server, blob: &[u8]) -> Result<super::cache::Pin, FetchError> {
    cache.get(&server.client(), Digest::of(blob), Bytes(blob.len() as u64), |_| ()).await
}

fn cache(dir: &Path, limit: u64) -> Arc<BlobCache> {
    Arc::new(BlobCache::open(dir, Bytes(limit)).unwrap())
}

fn ranges(server: &Server, blob: &[u8]) -> Vec<String> {
    let line = format!("GET /agent/v1/blobs/{}", Digest::of(blob).hex());
    server.seen(&line).iter().map(|request| request.headers["range"].clone()).collect()
}

#[tokio::test]
async fn only_the_pinned_certificate_is_accepted() {
    let server = Server::start(|_| answer(200, "hello")).await;
    let url = format!("https://{}/x", server.address);
    let right = pinned::client(server.certificate).build().unwrap();
    assert_eq!(right.get(&url).send().await.unwrap().text().await.unwrap(), "hello");
    let expected = Digest([1; 32]);
    let error = pinned::client(expected).build().unwrap().get(&url).send().await.unwrap_err();
    let foreign = pinned::foreign_certificate(&error).expect("it is recognised");
    assert_eq!((foreign.expected, foreign.found), (expected, server.certificate));
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_broke() {
    let blob = blob();
    let (served, breaks) = (blob.clone(), Mutex::new(2));
    let server = Server::start(move |request| {
        let mut breaks = breaks.lock().unwrap();
        let cut = (*breaks > 0).then_some(100_000);
        *breaks = u32::saturating_sub(*breaks, 1);
        Answer { cut, ..serve_range(&served, request) }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let pin = fetch(&cache(dir.path(), 1 << 30), &server, &blob).await.unwrap();
    assert_eq!(fs::read(pin.path()).unwrap(), blob);
    assert_eq!(ranges(&server, &blob), ["bytes=0-", "bytes=100000-", "bytes=200000-"]);
    assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
    let seen = &server.seen.lock().unwrap()[0];
    assert_eq!(seen.headers["caii-session"], SessionId([7; 16]).to_string());
    assert!(seen.headers["caii-device"].starts_with("dev_"));
}

#[tokio::test]
async fn a_transfer_goes_on_after_a_restart_of_the_agent() {
    let blob = blob();
    let served = blob.clone();
    let server = Server::start(move |request| serve_range(&served, request)).await;
    let dir = tempfile::tempdir().unwrap();
    let partial = dir.path().join("partial").join(Digest::of(&blob).hex());
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &blob[..7]).unwrap();
    let pin = fetch(&cache(dir.path(), 1 << 30), &server, &blob).await.unwrap();
    assert_eq!(fs::read(pin.path()).unwrap(), blob);
    assert_eq!(ranges(&server, &blob), ["bytes=7-"]);
}

#[tokio::test]
async fn a_damaged_beginning_is_fetched_again() {
    let blob = blob();
    let served = blob.clone();
    let server = Server::start(move |request| serve_range(&served, request)).await;
    let dir = tempfile::tempdir().unwrap();
    let partial = dir.path().join("partial").join(Digest::of(&blob).hex());
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, [0xff; 7]).unwrap();
    let pin = fetch(&cache(dir.path(), 1 << 30), &server, &blob).await.unwrap();
    assert_eq!(fs::read(pin.path()).unwrap(), blob);
    assert_eq!(ranges(&server, &blob), ["bytes=7-", "bytes=0-"]);
}

#[tokio::test]
async fn a_server_without_ranges_will_do() {
    let blob = blob();
    let served = blob.clone();
    let server = Server::start(move |_| answer(200, served.clone())).await;
    let dir = tempfile::tempdir().unwrap();
    let partial = dir.path().join("partial").join(Digest::of(&blob).hex());
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &blob[..50]).unwrap();
    let pin = fetch(&cache(dir.path(), 1 << 30), &server, &blob).await.unwrap();
    assert_eq!(fs::read(pin.path()).unwrap(), blob);
}

#[tokio::test]
async fn wrong_bytes_are_not_kept() {
    let blob = blob();
    let mut other = blob.clone();
    other[3] ^= 1;
    let server = Server::start(move |request| serve_range(&other, request)).await;
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(&cache(dir.path(), 1 << 30), &server, &blob).await.unwrap_err();
    assert!(matches!(error, FetchError::Wrong(_)), "{error}");
    assert_eq!(AttemptFailure::from(error).kind, AttemptFailureKind::BlobUnavailable);
    let files = fs::read_dir(dir.path()).unwrap().chain(fs::read_dir(dir.path().join("partial")).unwrap());
    assert_eq!(files.filter(|file| file.as_ref().unwrap().file_type().unwrap().is_file()).count(), 0);
}

#[tokio::test]
async fn a_missing_blob_is_not_waited_for() {
    let server = Server::start(|_| answer(404, r#"{"error": {"message": "no such blob"}}"#)).await;
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(&cache(dir.path(), 1 << 30), &server, b"x").await.unwrap_err();
    assert!(error.to_string().ends_with("the pool answered 404 Not Found: no such blob"), "{error}");
}

#[tokio::test]
async fn the_blob_used_least_recently_makes_room_and_pinned_ones_do_not() {
    let blobs = [[1u8; 40], [2; 40], [3; 40]];
    let served: BTreeMap<String, [u8; 40]> =
        blobs.iter().map(|blob| (format!("GET /agent/v1/blobs/{}", Digest::of(blob).hex()), *blob)).collect();
    let server = Server::start(move |request| serve_range(&served[&request.line], request)).await;
    let dir = tempfile::tempdir().unwrap();
    let held = cache(dir.path(), 100);
    let first = fetch(&held, &server, &blobs[0]).await.unwrap();
    drop(fetch(&held, &server, &blobs[1]).await.unwrap());
    drop(first);
    drop(fetch(&held, &server, &blobs[0]).await.unwrap());
    let third = fetch(&held, &server, &blobs[2]).await.unwrap();
    let there = |blob: &[u8]| dir.path().join(Digest::of(blob).hex()).exists();
    assert_eq!(blobs.map(|blob| there(&blob)), [true, false, true]);
    assert_eq!(ranges(&server, &blobs[0]).len(), 1, "what is there is not fetched again");
    let first = fetch(&held, &server, &blobs[0]).await.unwrap();
    let error = fetch(&held, &server, &blobs[1]).await.unwrap_err();
    assert_eq!(AttemptFailure::from(error).kind, AttemptFailureKind::DiskFull);
    drop((first, third));
    // After a restart the order of use is still known, and a smaller limit is kept at once.
    drop(held);
    cache(dir.path(), 50);
    assert_eq!(blobs.map(|blob| there(&blob)).iter().filter(|there| **there).count(), 1);
}

#[tokio::test]
async fn a_blob_that_the_disk_damaged_is_fetched_again() {
    let blob = blob();
    let served = blob.clone();
    let server = Server::start(move |request| serve_range(&served, request)).await;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(Digest::of(&blob).hex()), vec![0; blob.len()]).unwrap();
    let pin = fetch(&cache(dir.path(), 1 << 30), &server, &blob).await.unwrap();
    assert_eq!(fs::read(pin.path()).unwrap(), blob);
}

#[tokio::test]
async fn stale_transfers_are_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let partial = dir.path().join("partial");
    fs::create_dir_all(&partial).unwrap();
    for (name, age_h) in [("old", 25), ("young", 23)] {
        fs::write(partial.join(name), "x").unwrap();
        let time = SystemTime::now() - Duration::from_secs(age_h * 3600);
        fs::File::options().append(true).open(partial.join(name)).unwrap().set_modified(time).unwrap();
    }
    cache(dir.path(), 100);
    assert_eq!(["old", "young"].map(|name| partial.join(name).exists()), [false, true]);
}

fn lease(blob: &[u8], offset: u64, len: u32) -> Lease {
    let range = &blob[offset as usize..][..len as usize];
    Lease {
        id: LeaseId([1; 8]),
        pool: caii_trust::pool_id(&pool_key().public()),
        task: TaskId { job: JobId(1), index: TaskIndex(2) },
        device: DeviceId([0; 8]),
        workload: Digest([6; 32]),
        input: TaskInput { digest: Digest::of(range), offset, len, records: 1 },
        blob: Digest::of(blob),
        issued: Timestamp(0),
        expires: Timestamp(1),
    }
}

#[tokio::test]
async fn an_input_is_a_range_of_its_blob_and_goes_on_where_it_broke() {
    let blob = blob();
    let (served, first) = (blob.clone(), Mutex::new(true));
    let server = Server::start(move |request| {
        let cut = std::mem::take(&mut *first.lock().unwrap()).then_some(60);
        Answer { cut, ..serve_range(&served, request) }
    })
    .await;
    let input = fetch_input(&server.client(), &lease(&blob, 1_000, 100)).await.unwrap();
    assert_eq!(input, &blob[1_000..1_100]);
    assert_eq!(ranges(&server, &blob), ["bytes=1000-1099", "bytes=1060-1099"]);
}

#[tokio::test]
async fn an_input_with_another_digest_is_refused() {
    let blob = blob();
    let served = blob.clone();
    let server = Server::start(move |_| answer(200, served.clone())).await;
    let mut lease = lease(&blob, 1_000, 100);
    // A server without ranges will do.
    assert_eq!(fetch_input(&server.client(), &lease).await.unwrap(), &blob[1_000..1_100]);
    lease.input.offset = 1_004;
    let failure = fetch_input(&server.client(), &lease).await.unwrap_err();
    assert_eq!(failure.kind, AttemptFailureKind::BlobUnavailable);
}

/// An agent in `dir` against this server; what it said and how it ended.
async fn run_agent(dir: &Path, ticket: Option<JoinTicket>, stops: usize) -> (Result<(), AgentError>, Vec<AgentEvent>) {
    let mut options = AgentOptions::new(dir.to_owned(), ("/nonexistent".into(), vec![]));
    options.ticket = ticket.map(|ticket| ticket.encode().unwrap());
    let (sender, mut stop) = mpsc::channel(4);
    for _ in 0..stops {
        sender.send(()).await.unwrap();
    }
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = events.clone();
    let ended = run_until(options, &mut stop, move |event| log.lock().unwrap().push(event)).await;
    let events = events.lock().unwrap().clone();
    (ended, events)
}

/// A pool that enrols everybody and answers exchanges as told.
async fn pool(exchange: impl Fn(ExchangeRequest) -> Result<ExchangeReply, Refusal> + Send + Sync + 'static) -> Server {
    Server::start(move |request| match request.line.as_str() {
        "POST /agent/v1/enrol" => {
            let enrol = caii_wire::decode_enrol_request(&request.body).unwrap();
            let key = pool_key().public();
            let pool = caii_trust::pool_id(&key);
            let domain = caii_trust::domain::ENROLMENT;
            caii_trust::verify(&enrol.public_key, domain, &enrol.signed_digest(pool), &enrol.proof).unwrap();
            let device = caii_trust::device_id(&enrol.public_key);
            answer(200, caii_wire::encode_enrol_reply(&EnrolReply { device, pool, pool_public_key: key }))
        }
        "POST /agent/v1/exchange" => {
            let envelope = caii_wire::decode_envelope(&request.body).unwrap();
            let (request, _) = caii_wire::decode_exchange_request(envelope.device, &envelope.body).unwrap();
            match exchange(request) {
                Ok(reply) => answer(200, caii_wire::encode_exchange_reply(&reply, &Attachments::new())),
                Err(refusal) => answer(409, caii_wire::encode_refusal(&refusal)),
            }
        }
        other => panic!("{other}"),
    })
    .await
}

#[tokio::test]
async fn joins_once_and_remembers() {
    let server = pool(|request| Err(Refusal::DeviceUnknown(request.device))).await;
    let dir = tempfile::tempdir().unwrap();
    let (ended, events) = run_agent(dir.path(), Some(server.ticket()), 0).await;
    assert!(matches!(events[0], AgentEvent::Enrolled { .. }), "{events:?}");
    assert!(matches!(ended, Err(AgentError::Refused(Refusal::DeviceUnknown(_)))), "{ended:?}");
    let (ended, _) = run_agent(dir.path(), None, 0).await;
    assert!(matches!(ended, Err(AgentError::Refused(Refusal::DeviceUnknown(_)))), "{ended:?}");
    assert_eq!(server.seen("POST /agent/v1/enrol").len(), 1);
    // With its ticket a device that the pool has forgotten joins again, once.
    let (ended, _) = run_agent(dir.path(), Some(server.ticket()), 0).await;
    assert!(matches!(ended, Err(AgentError::Refused(_))), "{ended:?}");
    assert_eq!(server.seen("POST /agent/v1/enrol").len(), 2);
}

#[tokio::test]
async fn another_agent_with_this_identity_is_a_clear_error() {
    let server = pool(|_| Err(Refusal::SessionSuperseded)).await;
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = run_agent(dir.path(), Some(server.ticket()), 0).await;
    let error = ended.unwrap_err();
    assert!(matches!(error, AgentError::Superseded), "{error}");
    assert!(error.to_string().contains("another agent with this device's identity"));
}

#[tokio::test]
async fn an_idle_agent_stops_when_asked() {
    let server = pool(|request| {
        let session = SessionId([3; 16]);
        let (leases, acks, dropped) = (vec![], vec![], vec![]);
        Ok(ExchangeReply {
            session,
            sequence: request.sequence,
            now: Timestamp(0),
            leases,
            acks,
            dropped,
            governance: 0,
            claims: 0,
            challenge: 0,
        })
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (ended, events) = run_agent(dir.path(), Some(server.ticket()), 1).await;
    ended.unwrap();
    assert_eq!(events.last(), Some(&AgentEvent::Stopped { unreported: 0 }));
}

/// A pool with work for nobody, which says how many claims it has decided; then the agent is stopped.
#[tokio::test]
async fn what_the_pool_decided_is_kept_and_what_it_forgets_is_told() {
    let (sender, _) = mpsc::channel(1);
    let said = Arc::new(Mutex::new((0, sender)));
    let saying = said.clone();
    let server = pool(move |request| {
        let (claims, stop) = saying.lock().unwrap().clone();
        // It has heard the answer to its first request.
        if request.session.is_some() {
            let _ = stop.try_send(());
        }
        let (session, now) = (SessionId([3; 16]), Timestamp(0));
        let (leases, acks, dropped) = (vec![], vec![], vec![]);
        let sequence = request.sequence;
        Ok(ExchangeReply { session, sequence, now, leases, acks, dropped, governance: 0, claims, challenge: 0 })
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    for (claims, decided, forgotten) in
        [(41, 41, None), (41, 41, None), (12, 41, Some((13, 41))), (50, 50, Some((13, 41)))]
    {
        let (sender, mut stop) = mpsc::channel(1);
        *said.lock().unwrap() = (claims, sender);
        let mut options = AgentOptions::new(dir.path().to_owned(), ("/nonexistent".into(), vec![]));
        options.ticket = Some(server.ticket().encode().unwrap());
        let events = Arc::new(Mutex::new(Vec::new()));
        let log = events.clone();
        run_until(options, &mut stop, move |event| log.lock().unwrap().push(event)).await.unwrap();

        let view = super::status(dir.path()).unwrap();
        assert_eq!(view.claims_decided, decided);
        assert_eq!(view.claims_forgotten.map(|forgotten| (forgotten.first, forgotten.last)), forgotten);
        let told: Vec<String> = events.lock().unwrap().iter().map(AgentEvent::to_string).collect();
        let warned = told.iter().any(|line| line.contains("forgotten receipts of this device"));
        assert_eq!(warned, forgotten.is_some(), "{told:?}");
        let lines = view.lines().join("\n");
        assert!(lines.contains(&format!("--device {} --claims {decided}`", view.device)), "{lines}");
        assert_eq!(lines.contains("claims 13 to 41"), forgotten.is_some(), "{lines}");
        assert!(lines.contains("Energy goes by "), "{lines}");
    }
}

#[tokio::test]
async fn a_refused_ticket_says_why() {
    let server = Server::start(|_| answer(403, caii_wire::encode_refusal(&Refusal::TicketUnknown))).await;
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = run_agent(dir.path(), Some(server.ticket()), 0).await;
    assert!(matches!(ended, Err(AgentError::Enrolment(Refusal::TicketUnknown))), "{ended:?}");
}

#[tokio::test]
async fn a_server_with_another_certificate_is_not_told_the_ticket() {
    let server = pool(|_| Err(Refusal::SessionSuperseded)).await;
    let dir = tempfile::tempdir().unwrap();
    let ticket = JoinTicket { certificate: Digest([1; 32]), ..server.ticket() };
    let (ended, _) = run_agent(dir.path(), Some(ticket), 0).await;
    assert!(matches!(ended, Err(AgentError::Imposter { .. })), "{ended:?}");
    assert_eq!(server.seen.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_directory_belongs_to_one_pool() {
    let server = pool(|_| Err(Refusal::SessionSuperseded)).await;
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(run_agent(dir.path(), None, 0).await.0, Err(AgentError::NotJoined { .. })));
    run_agent(dir.path(), Some(server.ticket()), 0).await.0.unwrap_err();
    let other = JoinTicket { pool: PoolId([1; 8]), ..server.ticket() };
    assert!(matches!(run_agent(dir.path(), Some(other), 0).await.0, Err(AgentError::OtherPool { .. })));
}

#[tokio::test]
async fn an_agent_that_cannot_reach_its_pool_keeps_trying_until_stopped() {
    let server = pool(|_| Err(Refusal::SessionSuperseded)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap().to_string();
    drop(listener);
    let dir = tempfile::tempdir().unwrap();
    let ticket = JoinTicket { addresses: vec![gone], ..server.ticket() };
    let (ended, events) = run_agent(dir.path(), Some(ticket), 1).await;
    ended.unwrap();
    assert!(matches!(&events[0], AgentEvent::Unreachable { reason, .. } if reason.contains("refused")), "{events:?}");
}
