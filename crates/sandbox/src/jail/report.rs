//! What a runner says of each layer of the jail: no more than words, which cross the runner's pipe.

use caii_model::{JailLayer, JailLayers};

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

    /// All that is in force.
    pub fn enforced(&self) -> JailLayers {
        self.layers().filter(|(_, state)| **state == LayerState::Enforced).map(|(layer, _)| layer).collect()
    }

    /// What is not in force, and why.
    pub fn missing(&self) -> impl Iterator<Item = (JailLayer, &str)> {
        self.layers().filter_map(|(layer, state)| match state {
            LayerState::Enforced => None,
            LayerState::Unavailable(reason) => Some((layer, reason.as_str())),
        })
    }

    /// What is not in force although this policy insists on it, and why.
    pub fn missed(&self, policy: JailPolicy) -> impl Iterator<Item = (JailLayer, &str)> {
        self.missing().filter(move |(layer, _)| policy.insists_on(*layer))
    }

    pub(crate) fn record(&mut self, layer: JailLayer, state: LayerState) {
        match self.layers.binary_search_by_key(&layer, |(layer, _)| *layer) {
            Ok(place) => self.layers[place].1 = state,
            Err(place) => self.layers.insert(place, (layer, state)),
        }
    }
}

impl FromIterator<(JailLayer, LayerState)> for JailReport {
    fn from_iter<I: IntoIterator<Item = (JailLayer, LayerState)>>(layers: I) -> Self {
        let mut report = Self::default();
        layers.into_iter().for_each(|(layer, state)| report.record(layer, state));
        report
    }
}

/// What happens when a mandatory layer cannot be put in force: nothing is compiled or run, except where the layer is
/// among those that the contributor lets runners lack. It is the contributor's choice, never a pool's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JailPolicy {
    /// Mandatory layers that may be missing.
    pub may_lack: JailLayers,
}

impl JailPolicy {
    /// Nothing mandatory may be missing.
    pub const REQUIRE: Self = Self { may_lack: JailLayers::NONE };
    /// Anything may be missing.
    pub const ALLOW_ANY: Self = Self { may_lack: JailLayers::ALL };

    /// Whether nothing runs without this layer.
    pub const fn insists_on(self, layer: JailLayer) -> bool {
        layer.is_mandatory() && !self.may_lack.contains(layer)
    }

    /// Whether what these layers confine may go on.
    pub fn is_met_by(self, enforced: JailLayers) -> bool {
        enforced.missing().all(|layer| !self.insists_on(layer))
    }
}

/// What the contributor can do where it is missing.
pub(crate) const fn remedy(layer: JailLayer) -> &'static str {
    match layer {
        JailLayer::UserNamespace
        | JailLayer::NetworkNamespace
        | JailLayer::IpcNamespace
        | JailLayer::UtsNamespace
        | JailLayer::EmptyRoot => {
            "let ordinary users make namespaces (sysctl user.max_user_namespaces above 0, and where they exist \
             kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0), or run the \
             agent outside of the container that forbids it"
        }
        JailLayer::LandlockFiles => "use Linux 5.13 or newer with `landlock` in the boot parameter lsm=",
        JailLayer::LandlockNetwork => "use Linux 6.7 or newer with `landlock` in the boot parameter lsm=",
        JailLayer::LandlockScopes => "use Linux 6.12 or newer with `landlock` in the boot parameter lsm=",
        JailLayer::SystemCalls | JailLayer::Sealed => "use a Linux kernel with seccomp filters on x86-64 or 64-bit ARM",
        JailLayer::ControlGroup => {
            "run the agent as a systemd service with Delegate=memory pids and DelegateSubgroup=agent"
        }
        JailLayer::NotRoot
        | JailLayer::NoNewPrivileges
        | JailLayer::NoCapabilities
        | JailLayer::NotDumpable
        | JailLayer::DiesWithAgent
        | JailLayer::Descriptors
        | JailLayer::ResourceLimits => "use Linux 5.13 or newer; every such kernel has it",
    }
}
