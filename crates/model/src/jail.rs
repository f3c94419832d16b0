//! What the operating system denies to runners, in the words that devices and pools share.

use crate::Digest;
use crate::canonical::CanonicalWriter;
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

    /// Whether devices insist on it unless their contributor says otherwise. The others are newer than kernels in wide use, or need the
    /// machine's administrator, and each denies only what a mandatory layer denies too.
    pub const fn is_mandatory(self) -> bool {
        !matches!(self, Self::LandlockNetwork | Self::LandlockScopes | Self::ControlGroup)
    }
}

impl fmt::Display for JailLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of layers, one bit for each by its place in [`JailLayer::ALL`]: the form in which they travel and are stored.
///
/// Bits beyond are layers of a later release. Nothing is said by 0: an agent that tells nothing, or no layer at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JailLayers(pub u32);

impl JailLayers {
    /// No layer.
    pub const NONE: Self = Self(0);
    /// All that this release knows.
    pub const ALL: Self = Self((1 << JailLayer::ALL.len()) - 1);

    /// The same and this one.
    pub const fn with(self, layer: JailLayer) -> Self {
        Self(self.0 | 1 << layer as u32)
    }

    /// Whether this one is among them.
    pub const fn contains(self, layer: JailLayer) -> bool {
        self.0 & 1 << layer as u32 != 0
    }

    /// Those that are in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// How a claim names them: the SHA-256 of `caiijai1` and the number, four bytes, little endian.
    pub fn digest(self) -> Digest {
        Digest::of(&CanonicalWriter::new(b"caiijai1").u32(self.0).finish())
    }

    /// Those that this release knows, in the order of [`JailLayer::ALL`].
    pub fn iter(self) -> impl Iterator<Item = JailLayer> {
        JailLayer::ALL.into_iter().filter(move |layer| self.contains(*layer))
    }

    /// Those that this release knows and that are not among them.
    pub fn missing(self) -> impl Iterator<Item = JailLayer> {
        JailLayer::ALL.into_iter().filter(move |layer| !self.contains(*layer))
    }
}

impl FromIterator<JailLayer> for JailLayers {
    fn from_iter<I: IntoIterator<Item = JailLayer>>(layers: I) -> Self {
        layers.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for JailLayers {
    /// `sealed, control-group`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(JailLayer::name).collect();
        f.write_str(&names.join(", "))
    }
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
        assert_eq!(JailLayer::named("Sealed"), None);
    }

    /// They are stored and sent: a layer keeps its bit for ever.
    #[test]
    fn bits_are_these() {
        assert_eq!(JailLayers::NONE.with(JailLayer::NotRoot), JailLayers(1));
        assert_eq!(JailLayers::NONE.with(JailLayer::EmptyRoot), JailLayers(1 << 6));
        assert_eq!(JailLayers::NONE.with(JailLayer::ControlGroup), JailLayers(1 << 17));
        assert_eq!(JailLayer::ALL.into_iter().collect::<JailLayers>(), JailLayers::ALL);
    }

    /// Claims are signed with it: `printf 'caiijai1\x41\x00\x02\x00' | sha256sum`.
    #[test]
    fn the_digest_is_this_one() {
        let set: JailLayers = [JailLayer::NotRoot, JailLayer::EmptyRoot, JailLayer::ControlGroup].into_iter().collect();
        assert_eq!(set.digest().hex(), "7fa8a93f83dad9f42c86e14ca7c3ea4f28d3e1a4a81e8902f3c9b855f52bce91");
    }

    #[test]
    fn sets_of_later_releases_are_read_as_far_as_they_are_known() {
        let set = JailLayers(1 << 31).with(JailLayer::Sealed).with(JailLayer::ControlGroup);
        assert_eq!(set.to_string(), "sealed, control-group");
        assert!(set.contains(JailLayer::Sealed) && !set.contains(JailLayer::EmptyRoot));
        assert_eq!(set.missing().count(), 16);
        assert_eq!(set.and(JailLayers::ALL).iter().count(), 2);
    }
}
