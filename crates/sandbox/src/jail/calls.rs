//! Which system calls a runner may make, before and after it is sealed. All others are deadly.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;

/// A system call, and what its arguments must be.
type Allowed = (libc::c_long, Vec<SeccompRule>);

/// The filter of a runner that compiles, or that loads what was compiled; while it has one thread.
pub(super) fn allow_compiling(prepares: bool) -> Result<(), String> {
    let mut allowed = running()?;
    allowed.extend(compiling()?);
    if prepares {
        allowed.extend(preparing()?);
    }
    apply(&filter(allowed, SeccompAction::KillProcess, SeccompAction::Allow)?)?;
    apply(&filter(probing(), SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?)
}

/// The filter of a runner that has all its code and threads; on all threads.
pub(super) fn allow_running(prepares: bool) -> Result<(), String> {
    let mut allowed = running()?;
    if prepares {
        allowed.extend(preparing()?);
    }
    // The first filter stands beside this one, so an executable mapping that it allows dies here.
    for (call, rules) in &mut allowed {
        if matches!(*call, libc::SYS_mmap | libc::SYS_mprotect) {
            *rules = vec![without(2, libc::PROT_EXEC as u64)?];
        }
    }
    // In this order: the second denies to install another.
    apply(&filter(probing(), SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?)?;
    apply(&filter(allowed, SeccompAction::KillProcess, SeccompAction::Allow)?)
}

/// Reading and writing what is open, memory, locks, time, traps, and the end.
fn running() -> Result<Vec<Allowed>, String> {
    let mut allowed = freely(&[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_lseek,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_clock_gettime,
        libc::SYS_getrandom,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ]);
    // `abort` signals its own process; nobody else can be named.
    let own = rustix::process::getpid().as_raw_nonzero().get() as u64;
    allowed.push((libc::SYS_tgkill, vec![rule(&[(0, SeccompCmpOp::Eq, own)])?]));
    // Never done, only answered with an error by the filter for probes: the allocator looks for how the machine
    // overcommits before it gives memory back.
    allowed.extend(freely(&[libc::SYS_openat]));
    // The standard library asks whether a descriptor is open before it closes it.
    allowed.push((libc::SYS_fcntl, vec![rule(&[(1, SeccompCmpOp::Eq, libc::F_GETFD as u64)])?]));
    Ok(allowed)
}

/// What making code and threads needs beyond running.
fn compiling() -> Result<Vec<Allowed>, String> {
    let mut allowed = starting_threads()?;
    // Code that one core wrote is made visible to the others with this on ARM.
    #[cfg(target_arch = "aarch64")]
    allowed.extend(freely(&[libc::SYS_membarrier]));
    // To be answered with an error by the second filter, not with death.
    allowed.extend(probing());
    // Threads only, never a process, and in no new namespace: of the flags, exactly those of a thread.
    let thread = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    let thread = thread | libc::CLONE_SYSVSEM | libc::CLONE_SETTLS;
    let thread = thread | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID;
    allowed.push((libc::SYS_clone, vec![rule(&[(0, SeccompCmpOp::Eq, thread as u64)])?]));
    allowed.push((libc::SYS_fcntl, vec![rule(&[(1, SeccompCmpOp::Eq, libc::F_SETFD as u64)])?]));
    // The size of an open file. A path could be slipped in; in an empty root it leads nowhere.
    let empty_path = libc::AT_EMPTY_PATH as u64;
    allowed.push((libc::SYS_statx, vec![rule(&[(2, SeccompCmpOp::Eq, empty_path)])?]));
    allowed.push((libc::SYS_newfstatat, vec![rule(&[(3, SeccompCmpOp::Eq, empty_path)])?]));
    // Later filters are installed through this one.
    allowed.push((libc::SYS_seccomp, vec![rule(&[(0, SeccompCmpOp::Eq, u64::from(libc::SECCOMP_SET_MODE_FILTER))])?]));
    allowed.push((libc::SYS_prctl, vec![rule(&[(0, SeccompCmpOp::Eq, libc::PR_SET_NO_NEW_PRIVS as u64)])?]));
    Ok(allowed)
}

/// What a new thread does before it does anything else.
fn starting_threads() -> Result<Vec<Allowed>, String> {
    let mut allowed =
        freely(&[libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_set_tid_address, libc::SYS_sched_getaffinity]);
    allowed.push((libc::SYS_prctl, vec![rule(&[(0, SeccompCmpOp::Eq, libc::PR_SET_NAME as u64)])?]));
    Ok(allowed)
}

/// What preparing needs, sealed or not: the engine keeps an initial memory in a nameless file, the image is synced, and
/// threads that compile may be still starting when the runner is sealed.
fn preparing() -> Result<Vec<Allowed>, String> {
    let mut allowed = freely(&[libc::SYS_memfd_create, libc::SYS_fsync]);
    allowed.extend(starting_threads()?);
    allowed.push((libc::SYS_fcntl, vec![rule(&[(1, SeccompCmpOp::Eq, libc::F_ADD_SEALS as u64)])?]));
    Ok(allowed)
}

/// Libraries ask for these to be clever and do without: they get "no such call".
fn probing() -> Vec<Allowed> {
    // Flags of `clone3` are out of a filter's sight; `clone` is what libraries then use. Counting CPUs looks for quotas
    // in files.
    freely(&[libc::SYS_clone3, libc::SYS_openat])
}

fn freely(calls: &[libc::c_long]) -> Vec<Allowed> {
    calls.iter().map(|call| (*call, vec![])).collect()
}

/// These arguments together. Flags and commands are 32 bits wide.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, String> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    conditions.collect::<Result<_, _>>().and_then(SeccompRule::new).map_err(|error| format!("a bad filter: {error}"))
}

/// An argument without these bits.
fn without(argument: u8, bits: u64) -> Result<SeccompRule, String> {
    rule(&[(argument, SeccompCmpOp::MaskedEq(bits), 0)])
}

fn filter(allowed: Vec<Allowed>, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, String> {
    let cpu = std::env::consts::ARCH.try_into().map_err(|error| format!("no list of calls for this CPU: {error}"))?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (call, more) in allowed {
        rules.entry(call).or_default().extend(more);
    }
    SeccompFilter::new(rules, others, these, cpu)
        .and_then(TryInto::try_into)
        .map_err(|error| format!("cannot build the filter: {error}"))
}

fn apply(program: &BpfProgram) -> Result<(), String> {
    seccompiler::apply_filter_all_threads(program).map_err(|error| format!("cannot install the filter: {error}"))
}
