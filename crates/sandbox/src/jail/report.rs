//! The layers of the jail, and what a runner says of each: no more than words, which cross the runner's pipe.

use std::fmt;

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
    pub(crate) const BEFORE_READING: [Self; 13] = [
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
    pub(crate) const BEFORE_COMPILING: [Self; 3] = [Self::Descriptors, Self::ResourceLimits, Self::SystemCalls];

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
