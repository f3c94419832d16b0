//! The jail on Linux, as an ordinary user or as root.

use super::{Confine, Confines, JailLayer, calls};
use landlock::{
    ABI, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetStatus, Scope,
};
use landlock::{Access as _, RulesetError};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid, UnshareFlags};
use std::io;

/// The user and group that Linux keeps for whoever has no rights.
const NOBODY: u32 = 65_534;
/// Threads beside those that compile: the main thread, the one that runs programs, and one to spare.
const THREADS: u64 = 3;

#[derive(Debug, Default)]
pub(super) struct Linux {
    own_users: bool,
}

impl Confine for Linux {
    fn before_reading(&mut self, layer: JailLayer) -> Result<(), String> {
        match layer {
            JailLayer::NotRoot => leave_root(),
            JailLayer::NoNewPrivileges => rustix::thread::set_no_new_privs(true).map_err(failed("set the flag")),
            JailLayer::UserNamespace => {
                own_users()?;
                self.own_users = true;
                Ok(())
            }
            JailLayer::NetworkNamespace => unshare(UnshareFlags::NEWNET),
            JailLayer::IpcNamespace => unshare(UnshareFlags::NEWIPC),
            JailLayer::UtsNamespace => {
                unshare(UnshareFlags::NEWUTS)?;
                rustix::system::sethostname(b"runner").map_err(failed("change the name of the machine in it"))
            }
            JailLayer::EmptyRoot => empty_root(),
            JailLayer::NoCapabilities => {
                let none = CapabilitySet::empty();
                let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
                rustix::thread::clear_ambient_capability_set().map_err(failed("drop the ambient ones"))?;
                rustix::thread::set_capabilities(None, none).map_err(failed("drop them"))
            }
            JailLayer::LandlockFiles => landlock(|rules| {
                // All that the first version has, and whatever this kernel has more of.
                rules
                    .set_compatibility(CompatLevel::HardRequirement)
                    .handle_access(AccessFs::from_all(ABI::V1))?
                    .set_compatibility(CompatLevel::BestEffort)
                    .handle_access(AccessFs::from_all(ABI::V9))
            }),
            JailLayer::LandlockNetwork => landlock(|rules| {
                let all = AccessNet::from_all(ABI::V4);
                rules.set_compatibility(CompatLevel::HardRequirement).handle_access(all)
            }),
            JailLayer::LandlockScopes => landlock(|rules| {
                let all = Scope::from_all(ABI::V6);
                rules.set_compatibility(CompatLevel::HardRequirement).scope(all)
            }),
            JailLayer::NotDumpable => {
                rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("set the flag"))
            }
            // If the agent died before this line, standard input is at its end and the runner ends by itself.
            JailLayer::DiesWithAgent => rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(failed("ask for the signal")),
            JailLayer::Descriptors
            | JailLayer::ResourceLimits
            | JailLayer::SystemCalls
            | JailLayer::Sealed
            | JailLayer::ControlGroup => Err("it is not for this moment".to_owned()),
        }
    }

    fn before_compiling(&mut self, layer: JailLayer, confines: &Confines) -> Result<(), String> {
        match layer {
            // Whoever started the agent may have left descriptors open that a program must not inherit.
            JailLayer::Descriptors => confines
                .surplus
                .into_iter()
                .try_for_each(|(first, last)| close_range(first, last))
                .map_err(|error| format!("cannot close the surplus: {error}")),
            JailLayer::ResourceLimits => self.limit(confines),
            JailLayer::SystemCalls => calls::allow_compiling(confines.prepares),
            _ => Err("it is not for this moment".to_owned()),
        }
    }

    fn seal(&mut self, prepares: bool) -> Result<(), String> {
        calls::allow_running(prepares)
    }
}

impl Linux {
    fn limit(&self, confines: &Confines) -> Result<(), String> {
        limit(Resource::Core, 0)?;
        limit(Resource::Data, confines.data)?;
        limit(Resource::Fsize, confines.file_size)?;
        limit(Resource::Nofile, confines.files)?;
        limit(Resource::Memlock, 0)?;
        limit(Resource::Msgqueue, 0)?;
        if let Some(seconds) = confines.cpu_seconds {
            limit(Resource::Cpu, seconds)?;
        }
        // Without users of its own this would count all processes of the agent's user. Seccomp then is what bounds
        // them: threads only, and none once sealed.
        if self.own_users {
            let compiling =
                if confines.prepares { rustix::thread::sched_getaffinity(None) } else { Ok(Default::default()) };
            let compiling = compiling.map_err(failed("count the CPUs"))?.count();
            limit(Resource::Nproc, THREADS + u64::from(compiling))?;
        }
        Ok(())
    }
}

fn failed(what: &str) -> impl FnOnce(Errno) -> String {
    move |error| format!("cannot {what}: {}", io::Error::from(error))
}

/// Root becomes nobody. It keeps its capabilities for the layers that need them; [`JailLayer::NoCapabilities`] is where
/// they end.
fn leave_root() -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    if rustix::process::getuid().is_root() || rustix::process::geteuid().is_root() {
        rustix::thread::set_thread_groups(&[]).map_err(failed("leave root's groups"))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed("leave root's group"))?;
        rustix::thread::set_keep_capabilities(true).map_err(failed("keep capabilities"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed("become nobody"))?;
        let mut sets = rustix::thread::capabilities(None).map_err(failed("read capabilities"))?;
        sets.effective = sets.permitted;
        rustix::thread::set_capabilities(None, sets).map_err(failed("use capabilities"))?;
        // A change of user closes `/proc/self`, which the user namespace needs; `NotDumpable` closes it again.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(failed("open /proc/self"))?;
    }
    Ok(())
}

fn unshare(namespace: UnshareFlags) -> Result<(), String> {
    #[expect(unsafe_code, reason = "a namespace of files would confuse who owns descriptors; none is made here")]
    // SAFETY: the flags make new namespaces and leave the descriptor table alone.
    unsafe { rustix::thread::unshare_unsafe(namespace) }.map_err(failed("make the namespace"))
}

/// A user namespace in which only this user exists.
fn own_users() -> Result<(), String> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(UnshareFlags::NEWUSER)?;
    let write = |file: &str, text: &str| {
        std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| format!("cannot write its {file}: {error}"))
    };
    // The kernel wants this before it believes an ordinary user's map of groups.
    write("setgroups", "deny")?;
    write("uid_map", &format!("{uid} {uid} 1"))?;
    write("gid_map", &format!("{gid} {gid} 1"))
}

/// An empty file system that nobody can write becomes the root, and all others are let go.
fn empty_root() -> Result<(), String> {
    unshare(UnshareFlags::NEWNS)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("part from the machine's mounts"))?;
    // Any directory does as the place; this one is on every Linux. Search permission alone: even the list is denied.
    let place = "/proc";
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", place, "tmpfs", flags, Some(c"size=4k,nr_inodes=2,mode=0111")).map_err(failed("mount it"))?;
    rustix::process::chdir(place).map_err(failed("enter it"))?;
    rustix::process::pivot_root(".", ".").map_err(failed("make it the root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("let the machine's files go"))?;
    rustix::process::chdir("/").map_err(failed("enter it at last"))
}

/// A Landlock domain with these restrictions and no exception.
fn landlock(restrict: impl FnOnce(Ruleset) -> Result<Ruleset, RulesetError>) -> Result<(), String> {
    let restricted = restrict(Ruleset::default()).and_then(|rules| rules.create()?.restrict_self());
    match restricted.map_err(|error| format!("this kernel cannot: {error}"))?.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err("this kernel has no Landlock".to_owned()),
    }
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe wrapper closes a range of descriptors")]
    // SAFETY: plain numbers; nothing in this process owns these descriptors, which is why they are closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lowers a limit; never above what this process was started with.
fn limit(resource: Resource, value: u64) -> Result<(), String> {
    let most = rustix::process::getrlimit(resource).maximum;
    let value = Some(most.map_or(value, |most| most.min(value)));
    setrlimit(resource, Rlimit { current: value, maximum: value })
        .map_err(|error| format!("cannot limit {resource:?}: {}", io::Error::from(error)))
}
