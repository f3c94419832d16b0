//! What a program that broke out of the engine would try next, as raw system calls.
#![expect(unsafe_code, reason = "it plays a program that runs any machine code it likes")]

use libc::{c_long, c_void};
use std::ffi::CString;
use std::ptr::null;
use std::sync::atomic::{AtomicU16, Ordering};

/// An attempt: nothing if it worked, else the error number.
type Tried = Result<(), i32>;

/// An attempt and its name.
type Attempt = (&'static str, fn() -> Tried);
const ATTEMPTS: &[Attempt] = &[
    ("execve", || call(libc::SYS_execve, [addr(c"/bin/true"), 0, 0, 0, 0, 0])),
    ("memfd-exec", memfd_exec),
    ("open", || call(libc::SYS_openat, [AT_CWD, addr(c"/etc/passwd"), 0, 0, 0, 0])),
    #[cfg(target_arch = "x86_64")]
    ("open-old", || call(libc::SYS_open, [addr(c"/etc/passwd"), 0, 0, 0, 0, 0])),
    ("openat2", openat2),
    ("open-root", || call(libc::SYS_openat, [AT_CWD, addr(c"/"), 0, 0, 0, 0])),
    ("open-proc", || call(libc::SYS_openat, [AT_CWD, addr(c"/proc/self/status"), 0, 0, 0, 0])),
    ("open-sys", || call(libc::SYS_openat, [AT_CWD, addr(c"/sys/kernel"), 0, 0, 0, 0])),
    ("open-powercap", || call(libc::SYS_openat, [AT_CWD, addr(c"/sys/class/powercap"), 0, 0, 0, 0])),
    ("open-create", open_create),
    ("mkdir", mkdir),
    ("stat", || stat(libc::AT_EMPTY_PATH)),
    ("stat-path", || stat(0)),
    ("chdir", || call(libc::SYS_chdir, [addr(c"/etc"), 0, 0, 0, 0, 0])),
    ("chroot", || call(libc::SYS_chroot, [addr(c"/"), 0, 0, 0, 0, 0])),
    ("new-file-system", || call(libc::SYS_fsopen, [addr(c"tmpfs"), 0, 0, 0, 0, 0])),
    ("mount", || call(libc::SYS_mount, [addr(c"none"), addr(c"/"), addr(c"tmpfs"), 0, 0, 0])),
    ("unshare-user", || call(libc::SYS_unshare, [libc::CLONE_NEWUSER as c_long, 0, 0, 0, 0, 0])),
    ("unshare-mount", || call(libc::SYS_unshare, [libc::CLONE_NEWNS as c_long, 0, 0, 0, 0, 0])),
    ("fork", || fork(libc::SIGCHLD as c_long)),
    ("fork-user-namespace", || fork((libc::SIGCHLD | libc::CLONE_NEWUSER) as c_long)),
    ("fork-bomb", || (0..500).try_for_each(|_| sleeping_child())),
    ("clone3", clone3),
    ("thread", || std::thread::Builder::new().spawn(|| ()).map(drop).map_err(errno_of)),
    ("kill-parent", || call(libc::SYS_kill, [parent(), 0, 0, 0, 0, 0])),
    ("signal-parent-thread", || call(libc::SYS_tgkill, [parent(), parent(), 0, 0, 0, 0])),
    ("kill-all", || call(libc::SYS_kill, [-1, 0, 0, 0, 0, 0])),
    ("pidfd-parent", || call(libc::SYS_pidfd_open, [parent(), 0, 0, 0, 0, 0])),
    // To seize does not stop it.
    ("ptrace", || call(libc::SYS_ptrace, [libc::PTRACE_SEIZE as c_long, parent(), 0, 0, 0, 0])),
    ("process-vm-readv", process_vm_readv),
    ("socket-inet", || socket(libc::AF_INET)),
    ("socket-inet6", || socket(libc::AF_INET6)),
    ("socket-unix", || socket(libc::AF_UNIX)),
    ("socket-netlink", || socket(libc::AF_NETLINK)),
    ("socket-packet", || socket(libc::AF_PACKET)),
    ("socket-vsock", || socket(libc::AF_VSOCK)),
    ("socket-alg", || socket(libc::AF_ALG)),
    ("socketpair", socketpair),
    ("tcp-connect", tcp_connect),
    ("tcp-bind", tcp_bind),
    ("abstract-connect", abstract_connect),
    ("add-key", || call(libc::SYS_add_key, [addr(c"user"), addr(c"caii"), addr(c"x"), 1, KEY_PROCESS_KEYRING, 0])),
    ("keyctl", || call(libc::SYS_keyctl, [0, KEY_PROCESS_KEYRING, 1, 0, 0, 0])),
    ("io-uring", io_uring),
    ("userfaultfd", || call(libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0])),
    ("bpf", bpf),
    ("perf", perf),
    ("shared-memory", || call(libc::SYS_shmget, [target().into(), 1, 0, 0, 0, 0])),
    ("machine-name", machine_name),
    ("set-machine-name", || call(libc::SYS_sethostname, [addr(c"owned"), 5, 0, 0, 0, 0])),
    ("become-root", || call(libc::SYS_setuid, [0, 0, 0, 0, 0, 0])),
    ("use-capability", || call(libc::SYS_setpriority, [0, 0, -5, 0, 0, 0])),
    ("be-dumpable", || call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as c_long, 1, 0, 0, 0, 0])),
    ("surplus-descriptor", || call(libc::SYS_fcntl, [SURPLUS, libc::F_GETFD as c_long, 0, 0, 0, 0])),
    ("mmap-exec", || map(libc::PROT_READ | libc::PROT_EXEC).map(drop)),
    ("mprotect-exec", mprotect_exec),
    ("take-memory", take_memory),
    ("change-limit", change_limit),
    ("write-file", || write_at(4, 1 << 20)),
];

/// A descriptor that the tests leave open.
const SURPLUS: c_long = 200;
/// What the tests offer to be found: a TCP port, part of an abstract socket's name, a key of shared memory.
static TARGET: AtomicU16 = AtomicU16::new(0);

const AT_CWD: c_long = libc::AT_FDCWD as c_long;
const KEY_PROCESS_KEYRING: c_long = -2;

/// In place of the program: the item names the attempt.
pub(crate) fn while_running(item: &[u8]) -> Vec<u8> {
    attempt(&String::from_utf8_lossy(item)).into_bytes()
}

/// In place of the compiler: the program's file names the attempt.
pub(crate) fn while_compiling() -> String {
    let mut name = [0; 64];
    // SAFETY: the buffer is a live local of this size; 5 is where the agent put the program's file.
    let read = unsafe { libc::pread(5, name.as_mut_ptr().cast(), name.len(), 0) };
    let name = &name[..usize::try_from(read).unwrap_or(0)];
    attempt(&String::from_utf8_lossy(name))
}

fn attempt(order: &str) -> String {
    if order == "list" {
        return ATTEMPTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
    }
    let (name, target) = order.split_once(':').unwrap_or((order, "0"));
    TARGET.store(target.parse().unwrap_or(0), Ordering::Relaxed);
    match ATTEMPTS.iter().find(|(found, _)| *found == name) {
        None => format!("no attempt {name}"),
        Some((_, attempt)) => match attempt() {
            Ok(()) => "done".to_owned(),
            Err(errno) => format!("errno {errno}"),
        },
    }
}

/// Root becomes an ordinary user, as if that user had started the runner.
pub(crate) fn become_user() {
    const USER: libc::uid_t = 23_456;
    // SAFETY: plain numbers; the process has one thread.
    let done = unsafe {
        libc::setgroups(0, null()) == 0
            && libc::setresgid(USER, USER, USER) == 0
            && libc::setresuid(USER, USER, USER) == 0
            // As `execve` would.
            && libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
    };
    assert!(done, "cannot become an ordinary user: {}", std::io::Error::last_os_error());
}

fn call(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> Tried {
    value(number, [a, b, c, d, e, f]).map(drop)
}

fn value(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> Result<c_long, i32> {
    // SAFETY: every caller passes numbers, or addresses of things that live until the call returns.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { Err(errno()) } else { Ok(result) }
}

fn errno() -> i32 {
    errno_of(std::io::Error::last_os_error())
}

#[expect(clippy::needless_pass_by_value, reason = "a function for map_err")]
fn errno_of(error: std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

fn addr<T: ?Sized>(thing: &T) -> c_long {
    std::ptr::from_ref(thing).cast::<c_void>() as c_long
}

/// Of something that the kernel writes.
fn addr_mut<T>(thing: &mut T) -> c_long {
    std::ptr::from_mut(thing).cast::<c_void>() as c_long
}

fn target() -> u16 {
    TARGET.load(Ordering::Relaxed)
}

fn parent() -> c_long {
    std::os::unix::process::parent_id().into()
}

fn memfd_exec() -> Tried {
    let file = value(libc::SYS_memfd_create, [addr(c"x"), 0, 0, 0, 0, 0])?;
    let script = b"#!/bin/true\n";
    call(libc::SYS_write, [file, addr(script), script.len() as c_long, 0, 0, 0])?;
    call(libc::SYS_execveat, [file, addr(c""), 0, 0, libc::AT_EMPTY_PATH.into(), 0])
}

fn own_path() -> CString {
    CString::new(format!("/tmp/caii-jail-{}-{}", target(), std::process::id())).unwrap_or_default()
}

fn open_create() -> Tried {
    let path = own_path();
    let flags = (libc::O_CREAT | libc::O_WRONLY).into();
    call(libc::SYS_openat, [AT_CWD, addr(path.as_c_str()), flags, 0o600, 0, 0])?;
    call(libc::SYS_unlinkat, [AT_CWD, addr(path.as_c_str()), 0, 0, 0, 0])
}

fn mkdir() -> Tried {
    let path = own_path();
    call(libc::SYS_mkdirat, [AT_CWD, addr(path.as_c_str()), 0o700, 0, 0, 0])?;
    call(libc::SYS_unlinkat, [AT_CWD, addr(path.as_c_str()), libc::AT_REMOVEDIR.into(), 0, 0, 0])
}

fn openat2() -> Tried {
    let how = [0_u64; 3];
    call(libc::SYS_openat2, [AT_CWD, addr(c"/etc/passwd"), addr(&how), 24, 0, 0])
}

fn stat(flags: i32) -> Tried {
    let mut found = [0_u64; 32];
    call(libc::SYS_newfstatat, [AT_CWD, addr(c"/etc/passwd"), addr_mut(&mut found), flags.into(), 0, 0])
}

/// A child that ends at once.
fn fork(flags: c_long) -> Tried {
    match value(libc::SYS_clone, [flags, 0, 0, 0, 0, 0])? {
        // SAFETY: ends the child without touching what it shares with its parent.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    }
}

/// A child that waits for the end of its parent.
fn sleeping_child() -> Tried {
    match value(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0])? {
        // SAFETY: as above; the alarm ends it if its parent died too soon.
        0 => unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::alarm(1);
            loop {
                libc::pause();
            }
        },
        _ => Ok(()),
    }
}

fn clone3() -> Tried {
    let mut arguments = [0_u64; 11];
    arguments[4] = libc::SIGCHLD as u64;
    match value(libc::SYS_clone3, [addr_mut(&mut arguments), 88, 0, 0, 0, 0])? {
        // SAFETY: as above.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    }
}

fn process_vm_readv() -> Tried {
    let mut byte = [0_u8; 1];
    // The same program is mapped elsewhere in the parent; a bad address gives EFAULT, which means: allowed to look.
    let local = [byte.as_mut_ptr() as u64, 1];
    let remote = [4096_u64, 1];
    match call(libc::SYS_process_vm_readv, [parent(), addr(&local), 1, addr(&remote), 1, 0]) {
        Err(libc::EFAULT) => Ok(()),
        other => other,
    }
}

fn socket(family: i32) -> Tried {
    let kind = if family == libc::AF_ALG { libc::SOCK_SEQPACKET } else { libc::SOCK_STREAM };
    let kind = if matches!(family, libc::AF_NETLINK | libc::AF_PACKET) { libc::SOCK_DGRAM } else { kind };
    call(libc::SYS_socket, [family.into(), kind.into(), 0, 0, 0, 0])
}

fn socketpair() -> Tried {
    let mut pair = [0_i32; 2];
    call(libc::SYS_socketpair, [libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0, addr_mut(&mut pair), 0, 0])
}

fn loopback(port: u16) -> [u8; 16] {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    address
}

fn tcp_connect() -> Tried {
    let socket = value(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0, 0, 0, 0])?;
    call(libc::SYS_connect, [socket, addr(&loopback(target())), 16, 0, 0, 0])
}

fn tcp_bind() -> Tried {
    let socket = value(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0, 0, 0, 0])?;
    call(libc::SYS_bind, [socket, addr(&loopback(0)), 16, 0, 0, 0])
}

fn abstract_connect() -> Tried {
    let socket = value(libc::SYS_socket, [libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0, 0, 0, 0])?;
    let name = format!("\0caii-jail-{}", target());
    let mut address = [0_u8; 64];
    address[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
    address[2..2 + name.len()].copy_from_slice(name.as_bytes());
    call(libc::SYS_connect, [socket, addr(&address), 2 + name.len() as c_long, 0, 0, 0])
}

fn io_uring() -> Tried {
    let mut parameters = [0_u64; 15];
    call(libc::SYS_io_uring_setup, [2, addr_mut(&mut parameters), 0, 0, 0, 0])
}

fn bpf() -> Tried {
    // A map with one element of 4 bytes.
    let attributes = [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    call(libc::SYS_bpf, [0, addr(&attributes), 48, 0, 0, 0])
}

fn perf() -> Tried {
    // A software counter of this process's task clock, user space only.
    let mut attributes = [0_u32; 28];
    attributes[0] = 1;
    attributes[1] = 112;
    attributes[2] = 1;
    attributes[10] = 0b110_0000;
    call(libc::SYS_perf_event_open, [addr(&attributes), 0, -1, -1, 0, 0])
}

/// Whether the machine's own name is to be seen: an error if it is the jail's.
fn machine_name() -> Tried {
    let mut names = [0_u8; 390];
    call(libc::SYS_uname, [addr_mut(&mut names), 0, 0, 0, 0, 0])?;
    if names[65..].starts_with(b"runner\0") { Err(libc::ENOENT) } else { Ok(()) }
}

fn map(protection: i32) -> Result<c_long, i32> {
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).into();
    value(libc::SYS_mmap, [0, 4096, protection.into(), flags, -1, 0])
}

fn mprotect_exec() -> Tried {
    let page = map(libc::PROT_READ | libc::PROT_WRITE)?;
    call(libc::SYS_mprotect, [page, 4096, (libc::PROT_READ | libc::PROT_EXEC).into(), 0, 0, 0])
}

fn take_memory() -> Tried {
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE).into();
    let protection = (libc::PROT_READ | libc::PROT_WRITE).into();
    call(libc::SYS_mmap, [0, 64 << 30, protection, flags, -1, 0])
}

fn change_limit() -> Tried {
    let limit = [64_u64; 2];
    call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE.into(), addr(&limit), 0, 0, 0])
}

/// Writes a byte beyond what a file may hold. The signal that comes with the limit is not what is tested.
fn write_at(file: c_long, offset: c_long) -> Tried {
    // SAFETY: ignoring a signal touches no memory.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    call(libc::SYS_pwrite64, [file, addr(b"x"), 1, offset, 0, 0])
}
