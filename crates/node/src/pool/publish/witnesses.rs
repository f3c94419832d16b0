//! Asking witnesses to cosign the checkpoint (c2sp.org/tlog-witness). None of them can hold the pool up: the checkpoint is
//! published before they are asked, and without the lines of those that are away.

use super::board::{Board, Cosignature, Shown, WitnessState};
use super::disk::{Directory, Disk};
use crate::pool::config::WitnessSetting;
use caii_audit::Tiles;
use caii_tlog::{
    AddCheckpoint, NOTE_SIZE_MAX, Note, NoteError, NoteSignature, Unverified, earlier_tree, parse_cosignatures,
    parse_known_size, prove_consistency,
};
use reqwest::StatusCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Witnesses are asked together, about the same checkpoint, no sooner than after so long.
const ROUND_EVERY: Duration = Duration::from_secs(2);
/// How long one may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// One that failed is left alone for so long; doubled each time up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Characters of a witness's own words that are kept.
const WORDS_MAX: usize = 200;

/// Why a witness did not cosign.
#[derive(Debug, thiserror::Error)]
enum WitnessError {
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("it answered {status}: {words}")]
    Refused { status: StatusCode, words: String },
    #[error(
        "it cosigned {known} entries and the log has {size}: the log was restored from an older copy. Restore the newest \
         one: no witness will cosign it before it has grown, and then it contradicts what was cosigned"
    )]
    Ahead { known: u64, size: u64 },
    #[error("its answer is no cosignature")]
    Answer(#[source] NoteError),
    #[error("its cosignature does not hold; is the key in pool.toml the witness's?")]
    Unverified(#[source] Unverified),
    #[error("its answer is larger than any cosignature")]
    TooLarge,
    #[error("cannot prove that the checkpoint continues the one that it cosigned: {0}")]
    Proof(String),
}

/// A witness, and what is known of it.
struct Peer {
    setting: WitnessSetting,
    /// The size that it cosigned last, as far as this process knows.
    known: u64,
    state: WitnessState,
    due: Instant,
    pause: Duration,
}

impl Peer {
    fn new(setting: WitnessSetting, shown: Option<&Shown>) -> Self {
        let name = setting.key.name().to_string();
        let state = WitnessState { name, url: setting.url.clone(), cosigned: None, trouble: None };
        let mut peer = Self { setting, known: 0, state, due: Instant::now(), pause: BACKOFF.0 };
        let notes = shown.into_iter().flat_map(|shown| shown.cosigned.iter().chain([&shown.checkpoint]));
        for note in notes {
            if let (Some(at), Ok(checkpoint)) = (peer.signed(note), caii_tlog::Checkpoint::parse(note.text())) {
                peer.known = checkpoint.tree.size;
                peer.state.cosigned = Some((checkpoint.tree.size, at));
            }
        }
        peer
    }

    /// When it signed this note, if it did.
    fn signed(&self, note: &Note) -> Option<u64> {
        let signers = note.signers([&self.setting.key]).ok()?;
        signers.first().and_then(|signed| signed.at).map(|at| at.0)
    }

    fn lacks(&self, shown: &Shown) -> bool {
        self.signed(&shown.checkpoint).is_none()
    }

    /// Asks it about what is shown.
    async fn ask(
        mut self,
        http: reqwest::Client,
        shown: Arc<Shown>,
        disk: impl Disk + Clone,
    ) -> (Self, Option<Cosignature>) {
        let asked = self.cosigned(&http, &shown, &disk).await;
        match asked {
            Ok((line, at)) => {
                let size = shown.tree.size;
                self.known = size;
                if self.state.trouble.take().is_some() {
                    tracing::info!(witness = %self.state.name, "the witness cosigns again");
                }
                self.state.cosigned = Some((size, at));
                (self.due, self.pause) = (Instant::now(), BACKOFF.0);
                (self, Some(Cosignature { size, note: shown.checkpoint.clone(), line }))
            }
            Err(error) => {
                let reason = crate::pool::actor::describe(&error);
                if self.state.trouble.as_ref() != Some(&reason) {
                    tracing::warn!(witness = %self.state.name, %reason, "the witness does not cosign");
                }
                self.state.trouble = Some(reason);
                self.due = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(BACKOFF.1);
                (self, None)
            }
        }
    }

    async fn cosigned(
        &mut self,
        http: &reqwest::Client,
        shown: &Shown,
        disk: &(impl Disk + Clone),
    ) -> Result<(NoteSignature, u64), WitnessError> {
        let (status, body) = self.post(http, shown, disk).await?;
        let (status, body) = match parse_known_size(&body).filter(|_| status == StatusCode::CONFLICT) {
            None => (status, body),
            Some(known) if known > shown.tree.size => {
                return Err(WitnessError::Ahead { known, size: shown.tree.size });
            }
            // It knows another size than this process: the pool was started anew, or an answer was lost.
            Some(known) => {
                self.known = known;
                self.post(http, shown, disk).await?
            }
        };
        if status != StatusCode::OK {
            let words = String::from_utf8_lossy(&body).trim().chars().take(WORDS_MAX).collect();
            return Err(WitnessError::Refused { status, words });
        }
        let key = &self.setting.key;
        let lines = parse_cosignatures(&body).map_err(WitnessError::Answer)?;
        let mut note = shown.checkpoint.clone();
        let mut found = None;
        for line in lines.into_iter().filter(|line| line.name == *key.name() && line.id == key.id()) {
            note.add(line.clone());
            found = Some(line);
        }
        let signers = note.signers([key]).map_err(WitnessError::Unverified)?;
        let at = signers.first().and_then(|signed| signed.at).map_or(0, |at| at.0);
        let line = found.ok_or(WitnessError::Unverified(Unverified::Unsigned { known: 1 }))?;
        Ok((line, at))
    }

    async fn post(
        &self,
        http: &reqwest::Client,
        shown: &Shown,
        disk: &(impl Disk + Clone),
    ) -> Result<(StatusCode, Vec<u8>), WitnessError> {
        let (old_size, new, note, disk) = (self.known, shown.tree, shown.checkpoint.clone(), disk.clone());
        let prove = move || {
            let dir = Directory(disk);
            let old = earlier_tree(old_size, new.size, &Tiles(&dir))?;
            prove_consistency(&old, &new, &Tiles(&dir))
        };
        let proof = tokio::task::spawn_blocking(prove).await.map_err(|error| WitnessError::Proof(error.to_string()))?;
        let proof = proof.map_err(|error| WitnessError::Proof(crate::pool::actor::describe(&error)))?;
        let body = AddCheckpoint { old_size, proof, note }.to_string();
        let url = format!("{}/add-checkpoint", self.setting.url.trim_end_matches('/'));
        let mut response = http.post(url).body(body).send().await.map_err(WitnessError::Unreachable)?;
        let (status, mut body) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(WitnessError::Unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > NOTE_SIZE_MAX {
                return Err(WitnessError::TooLarge);
            }
        }
        Ok((status, body))
    }
}

/// Asks all witnesses about each new checkpoint, together, until it is time to stop.
pub(crate) async fn ask_witnesses(
    board: Arc<Board>,
    disk: impl Disk + Clone + Sync,
    witnesses: Vec<WitnessSetting>,
    mut stop: watch::Receiver<bool>,
) {
    if witnesses.is_empty() {
        return;
    }
    let http = match crate::pinned::trusting().timeout(ANSWER_MAX).build() {
        Ok(http) => http,
        Err(error) => return tracing::error!(reason = %crate::pool::actor::describe(&error), "no witness is asked"),
    };
    let mut watch = board.watch();
    let shown = watch.borrow_and_update().clone();
    let mut peers: Vec<Peer> = witnesses.into_iter().map(|setting| Peer::new(setting, shown.as_deref())).collect();
    loop {
        board.set_witnesses(peers.iter().map(|peer| peer.state.clone()).collect());
        let shown = watch.borrow_and_update().clone();
        let lacking = |peer: &&Peer| shown.as_ref().is_some_and(|shown| peer.lacks(shown));
        let next = peers.iter().filter(lacking).map(|peer| peer.due).min();
        let waited = async {
            match next {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                // Whoever holds the board is the sender, so it is never gone.
                None => _ = watch.changed().await,
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = waited => {}
        }
        // Meanwhile the log may have grown.
        let (Some(shown), Some(_)) = (watch.borrow_and_update().clone(), next) else { continue };
        let now = Instant::now();
        let (asked, others): (Vec<Peer>, Vec<Peer>) =
            peers.into_iter().partition(|peer| peer.due <= now && peer.lacks(&shown));
        let mut round = tokio::task::JoinSet::new();
        for peer in asked {
            round.spawn(peer.ask(http.clone(), shown.clone(), disk.clone()));
        }
        peers = others;
        while let Some(asked) = round.join_next().await {
            let (peer, cosignature) = asked.expect("asking a witness does not panic");
            cosignature.into_iter().for_each(|cosignature| board.cosigned(cosignature));
            peers.push(peer);
        }
        peers.sort_by(|one, other| one.state.name.cmp(&other.state.name));
        for peer in &mut peers {
            peer.due = peer.due.max(now + ROUND_EVERY);
        }
    }
}
