//! The jail: what the operating system denies to a runner, so that a flaw in the engine is not a way into the machine.
//!
//! The engine's own sandbox is the first wall. The jail is built on the assumption that a program broke through it and
//! runs any machine code it likes in the runner's process. A runner needs no path, no network and no other process (all
//! its files are inherited descriptors), so the jail closes all of them, in layers that mostly hold without each other.
//! `docs/sandbox.md` has the table: each layer, why, and what happens where it is missing.
//!
//! [`Jail::enter`] comes before a byte is read, [`Jail::confine`] before an untrusted byte is compiled, and
//! [`Jail::seal`] before the program runs. What is in force is counted in a [`JailReport`], which the agent gets with
//! the runner's first answer; a [`JailPolicy`] says what happens when something is missing.

#[cfg(target_os = "linux")]
mod calls;
pub(crate) mod cgroup;
#[cfg(any(test, not(target_os = "linux")))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;
mod report;

use std::io;
use std::process::Command;

pub use caii_model::{JailLayer, JailLayers};
pub(crate) use report::remedy;
pub use report::{JailPolicy, JailReport, LayerState};

#[cfg(not(target_os = "linux"))]
type System = elsewhere::Elsewhere;
#[cfg(target_os = "linux")]
type System = linux::Linux;

/// Before the runner reads anything. The order matters: namespaces need the rights that later layers take away, and
/// the kernel forgets "dies with agent" when the user changes.
const BEFORE_READING: [JailLayer; 13] = [
    JailLayer::NotRoot,
    JailLayer::NoNewPrivileges,
    JailLayer::UserNamespace,
    JailLayer::NetworkNamespace,
    JailLayer::IpcNamespace,
    JailLayer::UtsNamespace,
    JailLayer::EmptyRoot,
    JailLayer::NoCapabilities,
    JailLayer::LandlockFiles,
    JailLayer::LandlockNetwork,
    JailLayer::LandlockScopes,
    JailLayer::NotDumpable,
    JailLayer::DiesWithAgent,
];

/// Once the runner knows its work, before it touches an untrusted byte.
const BEFORE_COMPILING: [JailLayer; 3] = [JailLayer::Descriptors, JailLayer::ResourceLimits, JailLayer::SystemCalls];

/// What a runner may use of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Confines {
    /// Bytes of private writable memory: linear memory, the program's image, and what the runner itself needs.
    pub(crate) data: u64,
    /// The largest file it may write, in bytes.
    pub(crate) file_size: u64,
    /// Open descriptors.
    pub(crate) files: u64,
    /// Inherited descriptors that it has no use for: the first and last numbers of two ranges.
    pub(crate) surplus: [(u32, u32); 2],
    /// Seconds of CPU, if its work is bounded.
    pub(crate) cpu_seconds: Option<u64>,
    /// Compiles and initialises, or else loads and runs items.
    pub(crate) prepares: bool,
}

/// What an operating system can do to the process that calls it. Reasons are for people.
trait Confine {
    /// Puts one layer of [`BEFORE_READING`] in force.
    fn before_reading(&mut self, layer: JailLayer) -> Result<(), String>;
    /// Puts one layer of [`BEFORE_COMPILING`] in force.
    fn before_compiling(&mut self, layer: JailLayer, confines: &Confines) -> Result<(), String>;
    /// Puts [`JailLayer::Sealed`] in force, on all threads.
    fn seal(&mut self, prepares: bool) -> Result<(), String>;
}

/// The jail around this process, as far as it is closed.
pub(crate) struct Jail {
    system: System,
    omitted: Vec<JailLayer>,
    prepares: bool,
    sealed: bool,
    report: JailReport,
}

impl Jail {
    /// In the runner, while it has one thread and before it reads anything. `omitted` is for the tests that show what
    /// each layer is good for; a real runner omits nothing.
    pub(crate) fn enter(omitted: Vec<JailLayer>) -> Self {
        let report = JailReport::default();
        let mut jail = Self { system: System::default(), omitted, prepares: false, sealed: false, report };
        for layer in BEFORE_READING {
            jail.put_in_force(layer, |system| system.before_reading(layer));
        }
        jail
    }

    /// In the runner, once it knows its work and before it makes a thread or touches an untrusted byte.
    pub(crate) fn confine(&mut self, confines: &Confines) {
        self.prepares = confines.prepares;
        for layer in BEFORE_COMPILING {
            self.put_in_force(layer, |system| system.before_compiling(layer, confines));
        }
    }

    /// In the runner, once it has all code and threads that it will ever need. Again is nothing.
    pub(crate) fn seal(&mut self) {
        if !std::mem::replace(&mut self.sealed, true) {
            let prepares = self.prepares;
            self.put_in_force(JailLayer::Sealed, |system| system.seal(prepares));
        }
    }

    pub(crate) fn report(&self) -> &JailReport {
        &self.report
    }

    fn put_in_force(&mut self, layer: JailLayer, enforce: impl FnOnce(&mut System) -> Result<(), String>) {
        let outcome = match self.omitted.contains(&layer) {
            true => Err("a test left it out".to_owned()),
            false => enforce(&mut self.system),
        };
        let state = outcome.map_or_else(LayerState::Unavailable, |()| LayerState::Enforced);
        self.report.record(layer, state);
    }
}

/// In the agent: nothing of its environment, directory or process group reaches the runner.
pub(crate) fn confine(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.env_clear().current_dir("/").process_group(0);
}

/// In the runner: it runs only when nobody else wants the CPU. Manners, not a wall. Before it makes a thread.
pub(crate) fn be_idle() -> io::Result<()> {
    rustix::process::nice(19)?;
    let parameters = libc::sched_param { sched_priority: 0 };
    #[expect(unsafe_code, reason = "no safe wrapper sets the scheduling policy")]
    // SAFETY: the pointer is to a live local; 0 names the calling thread, and threads made later inherit from it.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_its_moment() {
        let inside = BEFORE_READING.into_iter().chain(BEFORE_COMPILING);
        let all: Vec<_> = inside.chain([JailLayer::Sealed, JailLayer::ControlGroup]).collect();
        assert_eq!(all, JailLayer::ALL);
    }

    #[test]
    fn a_report_names_what_is_missing() {
        let mut report = JailReport::default();
        report.record(JailLayer::Sealed, LayerState::Enforced);
        report.record(JailLayer::ControlGroup, LayerState::Unavailable("none here".into()));
        let missed = |report: &JailReport, policy| {
            report.missed(policy).map(|(layer, reason)| (layer, reason.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(missed(&report, JailPolicy::REQUIRE), []);
        report.record(JailLayer::EmptyRoot, LayerState::Unavailable("forbidden".into()));
        assert_eq!(missed(&report, JailPolicy::REQUIRE), [(JailLayer::EmptyRoot, "forbidden".into())]);
        assert_eq!(missed(&report, JailPolicy::ALLOW_ANY), []);
        let other = JailPolicy { may_lack: JailLayers::NONE.with(JailLayer::Sealed) };
        assert_eq!(missed(&report, other).len(), 1, "only what is named may be missing");
        let this = JailPolicy { may_lack: JailLayers::NONE.with(JailLayer::EmptyRoot) };
        assert_eq!(missed(&report, this), []);
        assert!(report.enforces(JailLayer::Sealed) && !report.enforces(JailLayer::EmptyRoot));
        assert!(!report.enforces(JailLayer::NotRoot), "what nobody recorded is not in force");
        report.record(JailLayer::EmptyRoot, LayerState::Enforced);
        assert_eq!(report.missing().collect::<Vec<_>>(), [(JailLayer::ControlGroup, "none here")]);
        assert_eq!(report.enforced(), [JailLayer::EmptyRoot, JailLayer::Sealed].into_iter().collect());
    }

    #[test]
    fn a_policy_is_met_by_what_is_mandatory_or_by_what_it_does_without() {
        let mandatory: JailLayers = JailLayer::ALL.into_iter().filter(|layer| layer.is_mandatory()).collect();
        assert!(JailPolicy::REQUIRE.is_met_by(mandatory));
        for layer in mandatory.iter() {
            let without: JailLayers = mandatory.iter().filter(|kept| *kept != layer).collect();
            assert!(!JailPolicy::REQUIRE.is_met_by(without), "{layer}");
            assert!(JailPolicy { may_lack: JailLayers::NONE.with(layer) }.is_met_by(without), "{layer}");
        }
        assert!(JailPolicy::ALLOW_ANY.is_met_by(JailLayers::NONE));
    }

    #[test]
    fn systems_without_a_jail_say_so() {
        let mut system = elsewhere::Elsewhere;
        for layer in BEFORE_READING {
            assert!(system.before_reading(layer).unwrap_err().contains("not been built"));
        }
    }
}
