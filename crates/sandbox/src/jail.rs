//! The seam of the jail: what the agent does to a runner's command before it is spawned ([`confine`]), and what the
//! runner does to itself before an untrusted byte is compiled or run ([`enter`]).
//!
//! In force today: [`IN_FORCE`], and no more. There are no namespaces, no empty root, no Landlock and no seccomp yet:
//! a flaw in the engine that let a program out of its sandbox would have this user's rights. A runner needs neither
//! paths nor the network (all its files are inherited descriptors), so that such a jail can close both.

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use std::io;
use std::process::Command;

/// What confines a runner beyond the engine's own sandbox, for receipts and for people.
pub const IN_FORCE: &[&str] = &[
    "own process and process group",
    "empty environment",
    "only inherited descriptors",
    "rlimits: data, file size, open files, core, CPU time while compiling",
    "SCHED_IDLE and nice 19 (unless told otherwise)",
    "killed with its agent",
];

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
    /// Runs only when nobody else wants the CPU.
    pub(crate) idle_priority: bool,
}

/// In the agent: nothing of its environment, directory or process group reaches the runner.
pub(crate) fn confine(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.env_clear().current_dir("/").process_group(0);
}

/// In the runner: gives up what it will not need. Call it before any untrusted byte is read.
pub(crate) fn enter(confines: &Confines) -> io::Result<()> {
    // If the agent died before this line, standard input is at its end and the runner ends by itself.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Whoever started the agent may have left descriptors open that a program must not inherit.
    for (first, last) in confines.surplus {
        close_range(first, last)?;
    }
    limit(Resource::Core, 0)?;
    limit(Resource::Data, confines.data)?;
    limit(Resource::Fsize, confines.file_size)?;
    limit(Resource::Nofile, confines.files)?;
    if let Some(seconds) = confines.cpu_seconds {
        limit(Resource::Cpu, seconds)?;
    }
    if confines.idle_priority {
        rustix::process::nice(19)?;
        set_idle_scheduling()?;
    }
    Ok(())
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe wrapper closes a range of descriptors")]
    // SAFETY: plain numbers; nothing in this process owns these descriptors, which is why they are closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lowers a limit; never above what this process was started with.
fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let most = rustix::process::getrlimit(resource).maximum;
    let value = Some(most.map_or(value, |most| most.min(value)));
    Ok(setrlimit(resource, Rlimit { current: value, maximum: value })?)
}

fn set_idle_scheduling() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    #[expect(unsafe_code, reason = "no safe wrapper sets the scheduling policy")]
    // SAFETY: the pointer is to a live local; 0 names the calling thread, and threads made later inherit from it.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
