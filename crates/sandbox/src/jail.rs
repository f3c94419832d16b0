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

use std::fmt;
use std::io;
use std::process::Command;

#[cfg(not(target_os = "linux"))]
type System = elsewhere::Elsewhere;
#[cfg(target_os = "linux")]
type System = linux::Linux;

/// One thing that the operating system denies to a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum JailLayer {
    /// Runs as nobody if the agent is root, else as the agent's user.
    NotRoot,
    /// Nothing that it could execute would give it more rights.
    NoNewPrivileges,
    /// A user namespace of its own: it holds no right over anything outside.
    UserNamespace,
    /// A network namespace without an interface that is up.
    NetworkNamespace,
    /// None of the machine's shared memory, semaphores and message queues.
    IpcNamespace,
    /// Does not see or change the machine's name.
    UtsNamespace,
    /// Its root directory is empty and read-only: no path leads to anything.
    EmptyRoot,
    /// No capability, not even within its namespaces.
    NoCapabilities,
    /// Landlock: opening, making, executing or changing any file is denied.
    LandlockFiles,
    /// Landlock: TCP is denied.
    LandlockNetwork,
    /// Landlock: signals and abstract sockets end at the runner.
    LandlockScopes,
    /// Leaves no core file, and its memory is closed to other processes of the same user.
    NotDumpable,
    /// Ends when its agent ends.
    DiesWithAgent,
    /// Has only the descriptors that its work needs.
    Descriptors,
    /// Limits on memory, file size, descriptors, threads, and on CPU time while compiling.
    ResourceLimits,
    /// Seccomp: every system call is deadly but the few that compiling and loading need.
    SystemCalls,
    /// Seccomp, after loading: no new code, no new thread, nothing but reading, writing and memory.
    Sealed,
    /// A control group of its own, with a limit on memory that swapping does not evade.
    ControlGroup,
}

impl JailLayer {
    /// All of them, in the order in which they are put in force.
    pub const ALL: [Self; 18] = [
        Self::NotRoot,
        Self::NoNewPrivileges,
        Self::UserNamespace,
        Self::NetworkNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::EmptyRoot,
        Self::NoCapabilities,
        Self::LandlockFiles,
        Self::LandlockNetwork,
        Self::LandlockScopes,
        Self::NotDumpable,
        Self::DiesWithAgent,
        Self::Descriptors,
        Self::ResourceLimits,
        Self::SystemCalls,
        Self::Sealed,
        Self::ControlGroup,
    ];

    /// Before the runner reads anything. The order matters: namespaces need the rights that later layers take away, and
    /// the kernel forgets "dies with agent" when the user changes.
    const BEFORE_READING: [Self; 13] = [
        Self::NotRoot,
        Self::NoNewPrivileges,
        Self::UserNamespace,
        Self::NetworkNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::EmptyRoot,
        Self::NoCapabilities,
        Self::LandlockFiles,
        Self::LandlockNetwork,
        Self::LandlockScopes,
        Self::NotDumpable,
        Self::DiesWithAgent,
    ];

    /// Once the runner knows its work, before it touches an untrusted byte.
    const BEFORE_COMPILING: [Self; 3] = [Self::Descriptors, Self::ResourceLimits, Self::SystemCalls];

    /// Its name in status, receipts and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotRoot => "not-root",
            Self::NoNewPrivileges => "no-new-privileges",
            Self::UserNamespace => "user-namespace",
            Self::NetworkNamespace => "network-namespace",
            Self::IpcNamespace => "ipc-namespace",
            Self::UtsNamespace => "uts-namespace",
            Self::EmptyRoot => "empty-root",
            Self::NoCapabilities => "no-capabilities",
            Self::LandlockFiles => "landlock-files",
            Self::LandlockNetwork => "landlock-network",
            Self::LandlockScopes => "landlock-scopes",
            Self::NotDumpable => "not-dumpable",
            Self::DiesWithAgent => "dies-with-agent",
            Self::Descriptors => "descriptors",
            Self::ResourceLimits => "resource-limits",
            Self::SystemCalls => "system-calls",
            Self::Sealed => "sealed",
            Self::ControlGroup => "control-group",
        }
    }

    /// The layer of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.name() == name)
    }

    /// Whether [`JailPolicy::Require`] insists on it. The others are newer than kernels in wide use, or need the
    /// machine's administrator, and each denies only what a mandatory layer denies too.
    pub const fn is_mandatory(self) -> bool {
        !matches!(self, Self::LandlockNetwork | Self::LandlockScopes | Self::ControlGroup)
    }

    /// What the contributor can do where it is missing.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::UserNamespace
            | Self::NetworkNamespace
            | Self::IpcNamespace
            | Self::UtsNamespace
            | Self::EmptyRoot => {
                "let ordinary users make namespaces (sysctl user.max_user_namespaces above 0, and where they exist \
                 kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0), or run the \
                 agent outside of the container that forbids it"
            }
            Self::LandlockFiles => "use Linux 5.13 or newer with `landlock` in the boot parameter lsm=",
            Self::LandlockNetwork => "use Linux 6.7 or newer with `landlock` in the boot parameter lsm=",
            Self::LandlockScopes => "use Linux 6.12 or newer with `landlock` in the boot parameter lsm=",
            Self::SystemCalls | Self::Sealed => "use a Linux kernel with seccomp filters on x86-64 or 64-bit ARM",
            Self::ControlGroup => {
                "run the agent as a systemd service with Delegate=memory pids and DelegateSubgroup=agent"
            }
            Self::NotRoot
            | Self::NoNewPrivileges
            | Self::NoCapabilities
            | Self::NotDumpable
            | Self::DiesWithAgent
            | Self::Descriptors
            | Self::ResourceLimits => "use Linux 5.13 or newer; every such kernel has it",
        }
    }
}

impl fmt::Display for JailLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a layer is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    /// It is.
    Enforced,
    /// It is not, and why.
    Unavailable(String),
}

/// What confines one runner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JailReport {
    /// In the order of [`JailLayer::ALL`], each at most once.
    layers: Vec<(JailLayer, LayerState)>,
}

impl JailReport {
    /// The layers and their states, in the order of [`JailLayer::ALL`].
    pub fn layers(&self) -> impl Iterator<Item = (JailLayer, &LayerState)> {
        self.layers.iter().map(|(layer, state)| (*layer, state))
    }

    /// Whether this layer is in force.
    pub fn enforces(&self, layer: JailLayer) -> bool {
        self.layers().any(|(found, state)| found == layer && *state == LayerState::Enforced)
    }

    /// What is not in force, and why.
    pub fn missing(&self) -> impl Iterator<Item = (JailLayer, &str)> {
        self.layers().filter_map(|(layer, state)| match state {
            LayerState::Enforced => None,
            LayerState::Unavailable(reason) => Some((layer, reason.as_str())),
        })
    }

    /// The first layer that [`JailPolicy::Require`] insists on and that is not in force.
    pub fn missing_mandatory(&self) -> Option<(JailLayer, &str)> {
        self.missing().find(|(layer, _)| layer.is_mandatory())
    }

    pub(crate) fn record(&mut self, layer: JailLayer, state: LayerState) {
        match self.layers.binary_search_by_key(&layer, |(layer, _)| *layer) {
            Ok(place) => self.layers[place].1 = state,
            Err(place) => self.layers.insert(place, (layer, state)),
        }
    }
}

/// What happens when a mandatory layer cannot be put in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JailPolicy {
    /// Nothing is compiled or run.
    #[default]
    Require,
    /// The runner starts all the same, and its report says what is missing. The contributor's choice, never a pool's.
    Allow,
}

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
    /// Puts one layer of [`JailLayer::BEFORE_READING`] in force.
    fn before_reading(&mut self, layer: JailLayer) -> Result<(), String>;
    /// Puts one layer of [`JailLayer::BEFORE_COMPILING`] in force.
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
        for layer in JailLayer::BEFORE_READING {
            jail.put_in_force(layer, |system| system.before_reading(layer));
        }
        jail
    }

    /// In the runner, once it knows its work and before it makes a thread or touches an untrusted byte.
    pub(crate) fn confine(&mut self, confines: &Confines) {
        self.prepares = confines.prepares;
        for layer in JailLayer::BEFORE_COMPILING {
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
    fn every_layer_has_its_place_and_its_name() {
        assert!(JailLayer::ALL.is_sorted());
        for layer in JailLayer::ALL {
            assert_eq!(JailLayer::named(layer.name()), Some(layer));
            assert_eq!(JailLayer::ALL[layer as usize], layer);
        }
        let inside = JailLayer::BEFORE_READING.into_iter().chain(JailLayer::BEFORE_COMPILING);
        let all: Vec<_> = inside.chain([JailLayer::Sealed, JailLayer::ControlGroup]).collect();
        assert_eq!(all, JailLayer::ALL);
    }

    #[test]
    fn a_report_names_what_is_missing() {
        let mut report = JailReport::default();
        report.record(JailLayer::Sealed, LayerState::Enforced);
        report.record(JailLayer::ControlGroup, LayerState::Unavailable("none here".into()));
        assert_eq!(report.missing_mandatory(), None);
        report.record(JailLayer::EmptyRoot, LayerState::Unavailable("forbidden".into()));
        assert_eq!(report.missing_mandatory(), Some((JailLayer::EmptyRoot, "forbidden")));
        assert!(report.enforces(JailLayer::Sealed) && !report.enforces(JailLayer::EmptyRoot));
        assert!(!report.enforces(JailLayer::NotRoot), "what nobody recorded is not in force");
        report.record(JailLayer::EmptyRoot, LayerState::Enforced);
        assert_eq!(report.missing().collect::<Vec<_>>(), [(JailLayer::ControlGroup, "none here")]);
    }

    #[test]
    fn systems_without_a_jail_say_so() {
        let mut system = elsewhere::Elsewhere;
        for layer in JailLayer::BEFORE_READING {
            assert!(system.before_reading(layer).unwrap_err().contains("not been built"));
        }
    }
}
