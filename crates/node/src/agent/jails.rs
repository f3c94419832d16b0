//! What confined the programs that ran here, layer by layer: noted for the owner with each start, told when it changes.

use super::driver::Events;
use super::event::AgentEvent;
use super::notes::{Noted, Notes};
use crate::clock;
use caii_model::{JailLayer, Manifest, Timestamp};
use caii_sandbox::{JailPolicy, JailReport, LayerState, StartReport};
use caii_trust::format_time;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Workloads whose jail is noted.
const NOTED_MAX: usize = 64;
/// Characters of a reason that are kept: a runner says it, and what runs in a runner is not trusted.
const REASON_MAX: usize = 300;

/// What confined a workload's program here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JailView {
    /// The workload's digest.
    pub workload: String,
    /// Its name.
    pub name: String,
    /// While it was compiled and initialised, when that was done here last.
    pub preparing: Option<JailStageView>,
    /// While it ran, when a runner was started last.
    pub running: Option<JailStageView>,
    /// What there is where too much is missing: the last start was refused. Nothing after a start that was not.
    pub refused: Option<JailStageView>,
}

/// What confined one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JailStageView {
    /// When it was started, in Unix milliseconds.
    pub at_ms: u64,
    /// Every layer.
    pub layers: Vec<LayerView>,
}

/// A layer of the jail around one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerView {
    /// Its name, as `empty-root`.
    pub layer: String,
    /// Whether it is in force, or who does without it.
    pub state: LayerStateView,
    /// Why it is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a layer is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerStateView {
    /// It is.
    Enforced,
    /// It is not, and nobody insists on it.
    Optional,
    /// It is not, and the owner allows that.
    Allowed,
    /// It is not, and so nothing was run.
    Missing,
}

impl LayerView {
    fn of(layer: JailLayer, state: &LayerState, policy: JailPolicy) -> Self {
        let (state, reason) = match state {
            LayerState::Enforced => (LayerStateView::Enforced, None),
            LayerState::Unavailable(reason) => {
                let state = match (layer.is_mandatory(), policy.insists_on(layer)) {
                    (false, _) => LayerStateView::Optional,
                    (true, false) => LayerStateView::Allowed,
                    (true, true) => LayerStateView::Missing,
                };
                (state, Some(reason.chars().take(REASON_MAX).collect()))
            }
        };
        Self { layer: layer.name().to_owned(), state, reason }
    }
}

impl JailStageView {
    fn of(report: &JailReport, policy: JailPolicy, at: Timestamp) -> Self {
        let layers = report.layers().map(|(layer, state)| LayerView::of(layer, state, policy));
        Self { at_ms: at.0, layers: layers.collect() }
    }

    /// `17 of 18 layers are in force; not control-group (no delegation; nobody insists on it)`
    fn summary(&self) -> String {
        let not: Vec<String> = self.layers.iter().filter_map(missing).collect();
        let in_force = self.layers.len() - not.len();
        let text = format!("{in_force} of {} layers of the jail are in force", self.layers.len());
        if not.is_empty() { text } else { format!("{text}; not {}", not.join(", ")) }
    }

    fn in_force(&self) -> String {
        let names = self.layers.iter().filter(|layer| layer.state == LayerStateView::Enforced);
        names.map(|layer| layer.layer.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// A layer that is not in force, with the reason and whose choice that is.
fn missing(layer: &LayerView) -> Option<String> {
    let whose = match layer.state {
        LayerStateView::Enforced => return None,
        LayerStateView::Optional => "nobody insists on it",
        LayerStateView::Allowed => "you allow that",
        LayerStateView::Missing => "so nothing is run",
    };
    Some(format!("{} ({}; {whose})", layer.layer, layer.reason.as_deref().unwrap_or("without a reason")))
}

impl JailView {
    /// The same in sentences.
    pub fn lines(&self) -> Vec<String> {
        let stages =
            [("was compiled", &self.preparing), ("was started", &self.running), ("was refused", &self.refused)];
        let told = stages.into_iter().filter_map(|(what, stage)| Some((what, stage.as_ref()?)));
        told.flat_map(|(what, stage)| {
            let when = format_time(Timestamp(stage.at_ms));
            let told = format!("When {} {what} on {when}: {}.", self.name, stage.summary());
            [told, format!("  In force: {}.", stage.in_force())]
        })
        .collect()
    }

    /// What to tell the owner as it happens.
    pub(crate) fn told(&self) -> String {
        let Some(stage) = self.refused.as_ref().or(self.running.as_ref()) else { return self.name.clone() };
        let verb = if self.refused.is_some() { "refused to start" } else { "starting" };
        format!("{verb} {}: {}", self.name, stage.summary())
    }
}

impl Noted for JailView {
    fn workload(&self) -> &str {
        &self.workload
    }
}

/// The notes, and whom to tell.
pub(crate) struct Jails {
    notes: Mutex<Notes<JailView>>,
    pub(crate) policy: JailPolicy,
    events: Events,
}

impl Jails {
    pub(crate) fn open(dir: &Path, policy: JailPolicy, events: Events) -> Arc<Self> {
        Arc::new(Self { notes: Mutex::new(notes(dir)), policy, events })
    }

    /// A runner was started.
    pub(crate) fn started(&self, manifest: &Manifest, report: &StartReport) {
        let stage = |report| JailStageView::of(report, self.policy, clock::now());
        let preparing = report.prepare_jail.as_ref().map(stage);
        self.note(manifest, |view| {
            view.refused = None;
            view.running = Some(stage(&report.jail));
            if preparing.is_some() {
                view.preparing = preparing;
            }
        });
    }

    /// No runner was started, because too much of the jail is missing.
    pub(crate) fn refused(&self, manifest: &Manifest, report: &JailReport) {
        self.note(manifest, |view| view.refused = Some(JailStageView::of(report, self.policy, clock::now())));
    }

    fn note(&self, manifest: &Manifest, change: impl FnOnce(&mut JailView)) {
        let workload = manifest.digest().to_string();
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = notes.of(&workload).cloned();
        let name = manifest.name.clone();
        let fresh = || JailView { workload, name, preparing: None, running: None, refused: None };
        let mut view = before.clone().unwrap_or_else(fresh);
        change(&mut view);
        notes.note(view.clone());
        drop(notes);
        let layers = |stage: &Option<JailStageView>| stage.as_ref().map(|stage| stage.layers.clone());
        let same = before.is_some_and(|before| {
            (layers(&before.running), layers(&before.refused)) == (layers(&view.running), layers(&view.refused))
        });
        if !same {
            (self.events)(AgentEvent::Jailed { jail: Box::new(view) });
        }
    }
}

/// What confined the programs that ran on the device of this directory, the newest last.
pub(crate) fn noted(dir: &Path) -> Vec<JailView> {
    notes(dir).into_entries()
}

fn notes(dir: &Path) -> Notes<JailView> {
    Notes::open(dir.join("jails.json"), NOTED_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_model::{Bytes, Digest, JailLayers, Limits, RuntimeClass, Scope};

    fn manifest(name: &str) -> Manifest {
        Manifest {
            name: name.into(),
            program: Digest([1; 32]),
            program_size: Bytes(10),
            runtime: RuntimeClass::Wasm,
            scope: Scope::Task,
            blobs: vec![],
            args: vec![],
            limits: Limits::default(),
            meter: caii_sandbox::meter_id(),
        }
    }

    fn start(jail: JailReport, prepare_jail: Option<JailReport>) -> StartReport {
        let prepared_in = JailLayers::ALL;
        let (cached, zero) = (prepare_jail.is_none(), caii_model::Millis(0));
        let init_fuel = caii_model::Fuel(0);
        StartReport { cached, compile_cpu: zero, init_fuel, wall: zero, jail, prepared_in, prepare_jail }
    }

    fn report(without: &[JailLayer]) -> JailReport {
        let state = |layer| match without.contains(&layer) {
            true => LayerState::Unavailable("not here".into()),
            false => LayerState::Enforced,
        };
        JailLayer::ALL.into_iter().map(|layer| (layer, state(layer))).collect()
    }

    #[test]
    fn what_is_missing_is_told_with_its_reason_and_whose_choice_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let policy = JailPolicy { may_lack: JailLayers::NONE.with(JailLayer::EmptyRoot) };
        let events = Arc::new(Mutex::new(Vec::new()));
        let log = events.clone();
        let jails = Jails::open(dir.path(), policy, Arc::new(move |event| log.lock().unwrap().push(event)));
        let weak = [JailLayer::EmptyRoot, JailLayer::ControlGroup];
        jails.started(&manifest("m"), &start(report(&weak), Some(report(&[]))));
        let words = "16 of 18 layers of the jail are in force; not empty-root (not here; you allow that), \
                     control-group (not here; nobody insists on it)";
        let told = || events.lock().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told(), [format!("starting m: {words}")]);
        // The same again is nothing new; another program, or another jail, is.
        jails.started(&manifest("m"), &start(report(&weak), None));
        assert_eq!(told().len(), 1);
        jails.started(&manifest("n"), &start(report(&weak), None));
        jails.started(&manifest("m"), &start(report(&[]), None));
        jails.refused(&manifest("m"), &report(&[JailLayer::Sealed]));
        assert_eq!(told()[2], "starting m: 18 of 18 layers of the jail are in force");
        let refused = "17 of 18 layers of the jail are in force; not sealed (not here; so nothing is run)";
        assert_eq!(told()[3], format!("refused to start m: {refused}"));

        // The next process reads it, and what was known of the preparation is kept.
        let views = noted(dir.path());
        assert_eq!(views.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(), ["n", "m"]);
        let lines = views[1].lines();
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert!(lines[0].starts_with("When m was compiled on 20") && lines[0].ends_with("are in force."), "{lines:?}");
        assert!(lines[5].starts_with("  In force: not-root, no-new-privileges, ") && !lines[5].contains("sealed"));
        assert!(lines[4].starts_with("When m was refused on ") && lines[4].contains(refused), "{lines:?}");
        let json = serde_json::to_value(&views[0]).unwrap();
        let layers = json["running"]["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 18);
        let expected = serde_json::json!({ "layer": "empty-root", "state": "allowed", "reason": "not here" });
        assert_eq!((&layers[6], &layers[0]["state"]), (&expected, &"enforced".into()));
    }

    #[test]
    fn a_reason_is_kept_within_bounds() {
        let mut layers = report(&[]).layers().map(|(layer, state)| (layer, state.clone())).collect::<Vec<_>>();
        layers[0].1 = LayerState::Unavailable("x".repeat(60_000));
        let stage = JailStageView::of(&layers.into_iter().collect(), JailPolicy::REQUIRE, Timestamp(0));
        assert_eq!(stage.layers[0].reason.as_ref().unwrap().len(), REASON_MAX);
    }
}
