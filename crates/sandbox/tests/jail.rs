//! The jail from inside and from outside: everything that a program could try fails, and each layer is missed when it
//! is left out.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

#[expect(dead_code, reason = "other tests use the rest")]
mod guests;

use caii_model::Manifest;
use caii_sandbox::JailLayer::{self, *};
use caii_sandbox::{
    DeviceSecret, JailPolicy, JailReport, LayerState, Priority, Runner, RunnerSpec, StartError, meter_id,
};
use guests::*;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Who starts the runner. Tests that are not run by root know only one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    User,
}

impl Who {
    fn all() -> &'static [Self] {
        if root() { &[Self::Root, Self::User] } else { &[Self::User] }
    }
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Compiling,
    Running,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Denied(i32),
    /// By the signal for a forbidden system call.
    Killed,
}

/// What attempts are aimed at, and a device to start runners on.
struct Target {
    directory: TempDir,
    manifest: Manifest,
    number: u16,
    shared_memory: i32,
    _tcp: TcpListener,
    _abstract: UnixListener,
}

impl Target {
    fn new() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = tcp.local_addr().unwrap().port();
        let name = SocketAddr::from_abstract_name(format!("caii-jail-{number}")).unwrap();
        let nothing = fs::File::open("/dev/null").unwrap();
        // SAFETY: plain numbers; the segment is removed when this is dropped, and descriptor 200 is nobody's.
        #[expect(unsafe_code, reason = "there is no safe wrapper")]
        let (shared_memory, leaked) = unsafe {
            let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o666;
            (libc::shmget(number.into(), 4096, flags), libc::dup2(nothing.as_raw_fd(), 200))
        };
        assert!(shared_memory >= 0 && leaked == 200, "{}", std::io::Error::last_os_error());
        let directory = tempfile::tempdir().unwrap();
        let wasm = menu();
        fs::write(directory.path().join("program"), &wasm).unwrap();
        fs::write(directory.path().join("blob"), BLOB).unwrap();
        let _abstract = UnixListener::bind_addr(&name).unwrap();
        Self { directory, manifest: manifest(&wasm, meter_id()), number, shared_memory, _tcp: tcp, _abstract }
    }

    fn spec(&self, who: Who, without: &[JailLayer]) -> RunnerSpec {
        let mut args: Vec<OsString> = vec![];
        if who == Who::User && root() {
            args.push("as-user".into());
        }
        args.extend(without.iter().map(|layer| format!("without={layer}").into()));
        let path = |name: &str| self.directory.path().join(name);
        let command = env!("CARGO_BIN_EXE_caii-sandbox-runner").into();
        let blobs = vec![("blob".into(), path("blob"))];
        let secret = DeviceSecret::new([5; 32]);
        let mut spec =
            RunnerSpec::new(command, args, self.manifest.clone(), path("program"), blobs, path("cache"), secret);
        spec.priority = Priority::Normal;
        spec.jail = JailPolicy::ALLOW_ANY;
        spec
    }

    async fn attempt(&self, who: Who, stage: Stage, without: &[JailLayer], name: &str) -> Outcome {
        let mut spec = self.spec(who, without);
        let order = format!("{name}:{}", self.number);
        let said = match stage {
            Stage::Running => {
                spec.args.push("running".into());
                let (mut runner, _) = Runner::start(spec).await.unwrap();
                match runner.run(vec![order.into_bytes()]).await {
                    Ok(run) => Ok(String::from_utf8(run.outcomes[0].result.clone().unwrap()).unwrap()),
                    Err(error) => Err(error.to_string()),
                }
            }
            Stage::Compiling => {
                spec.args.push("compiling".into());
                // Nothing is compiled and no image is made, so each attempt compiles again.
                spec.cache_dir = self.directory.path().join("empty");
                spec.program = self.directory.path().join(format!("order-{}", order.replace(':', "-")));
                fs::write(&spec.program, order).unwrap();
                match Runner::start(spec).await.unwrap_err() {
                    StartError::Host(said) => Ok(said),
                    StartError::Died { status, stderr } => Err(format!("({status}) {stderr}")),
                    other => panic!("{name}: {other}"),
                }
            }
        };
        match said {
            Ok(said) if said == "done" => Outcome::Done,
            Ok(said) => {
                Outcome::Denied(said.strip_prefix("errno ").unwrap_or_else(|| panic!("{said}")).parse().unwrap())
            }
            Err(died) if died.contains("SIGSYS") => Outcome::Killed,
            // It became another program, which ended.
            Err(died) if died.contains("exit status: 0") => Outcome::Done,
            Err(died) => panic!("{name}: {died}"),
        }
    }

    async fn attempts(&self) -> Vec<String> {
        let mut spec = self.spec(Who::User, &[]);
        spec.args.push("running".into());
        let mut runner = Runner::start(spec).await.unwrap().0;
        let run = runner.run(vec![b"list".to_vec()]).await.unwrap();
        let names = String::from_utf8(run.outcomes[0].result.clone().unwrap()).unwrap();
        names.split(' ').map(str::to_owned).collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "there is no safe wrapper")]
        // SAFETY: removes what `new` made; no pointer is followed for this command.
        unsafe {
            libc::shmctl(self.shared_memory, libc::IPC_RMID, std::ptr::null_mut());
        }
    }
}

fn all_but(kept: &[JailLayer]) -> Vec<JailLayer> {
    JailLayer::ALL.into_iter().filter(|layer| !kept.contains(layer)).collect()
}

/// What a runner may do while it compiles, and no more once it is sealed.
const FOR_COMPILING: &[&str] = &["thread", "mmap-exec", "mprotect-exec", "write-file"];

#[tokio::test]
async fn every_attempt_fails_in_the_full_jail() {
    let target = Target::new();
    let names = target.attempts().await;
    assert!(names.len() > 50, "{names:?}");
    for &who in Who::all() {
        for stage in [Stage::Compiling, Stage::Running] {
            for name in &names {
                let outcome = target.attempt(who, stage, &[], name).await;
                let allowed = stage == Stage::Compiling && FOR_COMPILING.contains(&name.as_str());
                assert_eq!(outcome == Outcome::Done, allowed, "{who:?} {stage:?} {name}: {outcome:?}");
            }
        }
    }
}

/// Would change this machine.
const NOT_TRIED: &[&str] = &["mount", "set-machine-name"];
/// Depends on the machine's hardware, kernel configuration or settings.
const NOT_EVERYWHERE: &[&str] = &[
    "open-powercap",
    "socket-inet6",
    "socket-vsock",
    "socket-alg",
    "socket-packet",
    "io-uring",
    "perf",
    "bpf",
    "userfaultfd",
    "become-root",
    "chroot",
    "new-file-system",
    "unshare-mount",
    "use-capability",
    "process-vm-readv",
    "ptrace",
    "unshare-user",
    "fork-user-namespace",
];

/// Attempts that fail anyway would prove nothing about the jail.
#[tokio::test]
async fn without_a_jail_attempts_succeed() {
    let target = Target::new();
    let who = Who::all()[0];
    let mut failed = BTreeSet::new();
    for name in target.attempts().await.iter().filter(|name| !NOT_TRIED.contains(&name.as_str())) {
        let outcome = target.attempt(who, Stage::Running, &JailLayer::ALL, name).await;
        if outcome != Outcome::Done && !NOT_EVERYWHERE.contains(&name.as_str()) {
            failed.insert(format!("{name}: {outcome:?}"));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Each layer alone, with those it needs, stops these; without any layer they succeed.
#[tokio::test]
async fn each_layer_holds_alone() {
    use Outcome::*;
    use Stage::*;
    let target = Target::new();
    let eperm = Denied(libc::EPERM);
    let cases: &[(&[JailLayer], Stage, &str, Outcome)] = &[
        (&[UserNamespace, NetworkNamespace], Running, "tcp-connect", Denied(libc::ENETUNREACH)),
        (&[UserNamespace, IpcNamespace], Running, "shared-memory", Denied(libc::ENOENT)),
        (&[UserNamespace, UtsNamespace], Running, "machine-name", Denied(libc::ENOENT)),
        (&[UserNamespace, EmptyRoot], Running, "open", Denied(libc::ENOENT)),
        (&[UserNamespace, EmptyRoot], Running, "execve", Denied(libc::ENOENT)),
        (&[UserNamespace, EmptyRoot], Compiling, "stat", Denied(libc::ENOENT)),
        (&[LandlockFiles], Running, "open", Denied(libc::EACCES)),
        (&[LandlockFiles], Running, "open-root", Denied(libc::EACCES)),
        (&[LandlockFiles], Running, "open-create", Denied(libc::EACCES)),
        (&[LandlockFiles], Running, "mkdir", Denied(libc::EACCES)),
        (&[LandlockFiles], Running, "execve", Denied(libc::EACCES)),
        (&[LandlockNetwork], Running, "tcp-connect", Denied(libc::EACCES)),
        (&[LandlockNetwork], Running, "tcp-bind", Denied(libc::EACCES)),
        (&[LandlockScopes], Running, "kill-parent", eperm),
        (&[LandlockScopes], Running, "abstract-connect", eperm),
        (&[Descriptors], Running, "surplus-descriptor", Denied(libc::EBADF)),
        (&[ResourceLimits], Running, "take-memory", Denied(libc::ENOMEM)),
        (&[ResourceLimits], Running, "write-file", Denied(libc::EFBIG)),
        (&[NotRoot, UserNamespace, NoCapabilities, ResourceLimits], Running, "fork-bomb", Denied(libc::EAGAIN)),
        (&[SystemCalls], Compiling, "socket-inet", Killed),
        (&[SystemCalls], Compiling, "fork", Killed),
        (&[SystemCalls], Compiling, "kill-parent", Killed),
        (&[SystemCalls], Compiling, "io-uring", Killed),
        (&[SystemCalls], Compiling, "clone3", Denied(libc::ENOSYS)),
        (&[SystemCalls], Compiling, "open", Denied(libc::ENOSYS)),
        (&[Sealed], Running, "mmap-exec", Killed),
        (&[Sealed], Running, "mprotect-exec", Killed),
        (&[Sealed], Running, "fork", Killed),
        (&[Sealed], Running, "socket-unix", Killed),
        (&[Sealed], Running, "open", Denied(libc::ENOSYS)),
    ];
    for &who in Who::all() {
        for (layers, stage, name, expected) in cases {
            let outcome = target.attempt(who, *stage, &all_but(layers), name).await;
            assert_eq!(outcome, *expected, "{who:?} {name} with only {layers:?}");
            if *name == "kill-parent" && who == Who::User && root() {
                // Another user's, which needs no jail.
                continue;
            }
            let bare = target.attempt(who, *stage, &JailLayer::ALL, name).await;
            assert_eq!(bare, Done, "{who:?} {name} without a jail");
        }
    }
    if root() {
        // These take from root what an ordinary user never had.
        for (layers, name) in [
            (&[NoCapabilities][..], "use-capability"),
            (&[NoCapabilities], "new-file-system"),
            (&[UserNamespace], "use-capability"),
            (&[NotRoot, NoCapabilities], "become-root"),
            (&[NotRoot, NoCapabilities], "kill-parent"),
        ] {
            let outcome = target.attempt(Who::Root, Running, &all_but(layers), name).await;
            assert!(matches!(outcome, Denied(libc::EPERM | libc::EACCES)), "{name} with only {layers:?}: {outcome:?}");
            assert_eq!(target.attempt(Who::Root, Running, &JailLayer::ALL, name).await, Done, "{name}");
        }
    }
}

/// What a single layer stands for: with all others in force, these succeed. (The remaining layers overlap, so that none
/// of them is the only wall; `each_layer_holds_alone` and `a_report_says_what_is_in_force` are what goes red for them.)
#[tokio::test]
async fn without_one_layer_some_attempts_succeed() {
    use Stage::*;
    let target = Target::new();
    let cases: &[(JailLayer, Stage, &[&str])] = &[
        (EmptyRoot, Compiling, &["stat"]),
        (Descriptors, Running, &["surplus-descriptor"]),
        (ResourceLimits, Running, &["take-memory", "write-file"]),
        (
            SystemCalls,
            Compiling,
            &["fork", "clone3", "socket-unix", "socketpair", "keyctl", "add-key", "fork-user-namespace", "be-dumpable"],
        ),
        (Sealed, Running, &["mmap-exec", "mprotect-exec", "thread"]),
    ];
    for &who in Who::all() {
        for (layer, stage, names) in cases {
            for name in *names {
                let outcome = target.attempt(who, *stage, &[*layer], name).await;
                assert_eq!(outcome, Outcome::Done, "{who:?} {name} without {layer}");
            }
        }
    }
}

/// The layers that can be seen in `/proc` from outside. Of a process that is not dumpable, only root sees all.
fn seen(pid: u32) -> BTreeSet<JailLayer> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let status = fs::read_to_string(proc.join("status")).unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let own_namespace = |name: &str| {
        let link = |process: &Path| fs::read_link(process.join("ns").join(name)).unwrap();
        link(&proc) != link(Path::new("/proc/self"))
    };
    let filters: u32 = line("Seccomp_filters:").parse().unwrap();
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let file_size = limits.lines().find(|line| line.starts_with("Max file size")).unwrap();
    let mut seen = vec![
        (NotRoot, !line("Uid:").split_whitespace().any(|id| id == "0")),
        (NoNewPrivileges, line("NoNewPrivs:") == "1"),
        (
            NoCapabilities,
            ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"].iter().all(|name| line(name) == "0000000000000000"),
        ),
        (ResourceLimits, file_size.split_whitespace().any(|value| value == "8")),
        // Each installs two.
        (SystemCalls, filters >= 2),
        (Sealed, filters == 4),
        (NotDumpable, fs::metadata(proc.join("status")).unwrap().uid() == 0),
    ];
    if root() {
        seen.extend([
            (UserNamespace, own_namespace("user")),
            (NetworkNamespace, own_namespace("net")),
            (IpcNamespace, own_namespace("ipc")),
            (UtsNamespace, own_namespace("uts")),
            (EmptyRoot, fs::read_dir(proc.join("root")).unwrap().next().is_none()),
            (Descriptors, !proc.join("fd/200").exists()),
        ]);
    }
    seen.into_iter().filter(|(_, seen)| *seen).map(|(layer, _)| layer).collect()
}

async fn report(target: &Target, who: Who, without: &[JailLayer]) -> (JailReport, BTreeSet<JailLayer>) {
    let (runner, report) = Runner::start(target.spec(who, without)).await.unwrap();
    let seen = seen(runner.pid());
    (report.jail, seen)
}

#[tokio::test]
async fn a_report_says_what_is_in_force() {
    let target = Target::new();
    for &who in Who::all() {
        let (full, all_seen) = report(&target, who, &[]).await;
        assert_eq!(full.missed(JailPolicy::REQUIRE).next(), None, "{full:?}");
        assert_eq!(full.layers().map(|(layer, _)| layer).collect::<Vec<_>>(), JailLayer::ALL);
        assert!(all_seen.iter().all(|layer| full.enforces(*layer)));
        assert_eq!(all_seen.len(), if root() { 13 } else { 7 }, "{all_seen:?}");
        for without in JailLayer::ALL.into_iter().filter(|layer| *layer != ControlGroup) {
            let (report, seen) = report(&target, who, &[without]).await;
            assert!(!report.enforces(without), "{without}");
            let mut expected: BTreeSet<_> = all_seen.iter().copied().filter(|layer| report.enforces(*layer)).collect();
            match without {
                // Landlock and seccomp set the flag themselves.
                NoNewPrivileges => expected.insert(NoNewPrivileges),
                // An ordinary user is not root whatever the layer does; a user who is root can see it.
                NotRoot if who == Who::User => expected.insert(NotRoot),
                // An ordinary user has no capabilities unless in a namespace of its own.
                NoCapabilities if who == Who::User && !report.enforces(UserNamespace) => {
                    expected.insert(NoCapabilities)
                }
                // Two of four filters; which two, the report knows.
                SystemCalls => expected.remove(&Sealed) && expected.insert(SystemCalls),
                _ => false,
            };
            assert_eq!(seen, expected, "{who:?} without {without}: {report:?}");
            // An ordinary user can make the other namespaces only within one of its own.
            let dependent = without == UserNamespace && who == Who::User;
            let dependent: &[_] =
                if dependent { &[NetworkNamespace, IpcNamespace, UtsNamespace, EmptyRoot] } else { &[] };
            for (layer, state) in report.layers() {
                let missing = layer == without || dependent.contains(&layer) || !full.enforces(layer);
                assert_eq!(*state != LayerState::Enforced, missing, "{who:?} without {without}: {layer} {state:?}");
            }
        }
    }
}

#[tokio::test]
async fn nothing_runs_where_a_mandatory_layer_is_missing_unless_it_is_allowed() {
    let target = Target::new();
    for layer in JailLayer::ALL {
        let mut spec = target.spec(Who::User, &[layer]);
        spec.jail = JailPolicy::REQUIRE;
        spec.cache_dir = target.directory.path().join(format!("cache-{layer}"));
        let images = spec.cache_dir.clone();
        match Runner::start(spec).await {
            Err(StartError::Jail { report, policy }) if layer.is_mandatory() => {
                let missed: Vec<_> = report.missed(policy).collect();
                assert!(missed.contains(&(layer, "a test left it out")), "{missed:?}");
                let compiled = fs::read_dir(images)
                    .unwrap()
                    .any(|file| file.unwrap().path().extension().is_some_and(|extension| extension == "image"));
                assert!(!compiled, "{layer}");
            }
            Ok((mut runner, _)) if !layer.is_mandatory() => {
                let run = runner.run(vec![b"ehello".to_vec()]).await.unwrap();
                assert_eq!(run.outcomes[0].result.as_deref(), Ok(&b"hello"[..]));
            }
            other => panic!("{layer}: {other:?}"),
        }
    }
    let missing = Runner::start(RunnerSpec { jail: JailPolicy::REQUIRE, ..target.spec(Who::User, &[EmptyRoot]) });
    let text = missing.await.unwrap_err().to_string();
    assert!(text.contains("empty-root") && text.contains("user.max_user_namespaces"), "{text}");
    assert!(text.ends_with("--allow-weak-jail empty-root"), "{text}");
}

fn may_lack(layers: &[JailLayer]) -> JailPolicy {
    JailPolicy { may_lack: layers.iter().copied().collect() }
}

#[tokio::test]
async fn only_the_layers_that_the_contributor_names_may_be_missing() {
    let target = Target::new();
    let spec = |without: &[JailLayer], allowed: &[JailLayer]| RunnerSpec {
        jail: may_lack(allowed),
        ..target.spec(Who::User, without)
    };
    let missing = [NotDumpable, Descriptors];
    for allowed in [&[][..], &[NotDumpable], &[Descriptors, Sealed, EmptyRoot]] {
        let error = Runner::start(spec(&missing, allowed)).await.unwrap_err();
        let StartError::Jail { report, policy } = &error else { panic!("{error}") };
        let missed: Vec<_> = report.missed(*policy).map(|(layer, _)| layer).collect();
        let expected: Vec<_> = missing.into_iter().filter(|layer| !allowed.contains(layer)).collect();
        assert_eq!(missed, expected);
        // All of them at once, as the option takes them.
        let names: Vec<_> = expected.iter().map(|layer| layer.name()).collect();
        assert!(error.to_string().ends_with(&format!("--allow-weak-jail {}", names.join(","))), "{error}");
    }
    let (mut runner, started) = Runner::start(spec(&missing, &missing)).await.unwrap();
    assert!(missing.iter().all(|layer| !started.jail.enforces(*layer)));
    assert!(started.jail.enforces(Sealed), "what may be missing is still put in force where it can be");
    let run = runner.run(vec![b"ehello".to_vec()]).await.unwrap();
    assert_eq!(run.outcomes[0].result.as_deref(), Ok(&b"hello"[..]));
}

#[tokio::test]
async fn what_confined_the_preparation_is_told_and_a_weakly_made_image_is_not_used_by_the_strict() {
    let target = Target::new();
    let spec = |without: &[JailLayer], policy| RunnerSpec { jail: policy, ..target.spec(Who::User, without) };
    let (_, weak) = Runner::start(spec(&[NotDumpable], may_lack(&[NotDumpable]))).await.unwrap();
    let report = weak.prepare_jail.as_ref().expect("it was made now");
    assert_eq!(report.layers().map(|(layer, _)| layer).collect::<Vec<_>>(), JailLayer::ALL);
    assert!(!report.enforces(NotDumpable) && report.enforces(Sealed), "{report:?}");
    assert_eq!(weak.prepared_in, report.enforced());
    // The same contributor uses it again,
    let (_, again) = Runner::start(spec(&[], may_lack(&[NotDumpable]))).await.unwrap();
    assert!(again.cached && again.prepare_jail.is_none() && again.jail.enforces(NotDumpable));
    assert!(!JailPolicy::REQUIRE.is_met_by(again.prepared_in));
    // and one who insists on the layer has it made again.
    let (_, strict) = Runner::start(spec(&[], JailPolicy::REQUIRE)).await.unwrap();
    assert!(!strict.cached && JailPolicy::REQUIRE.is_met_by(strict.prepared_in));
    let (_, strict) = Runner::start(spec(&[], JailPolicy::REQUIRE)).await.unwrap();
    assert!(strict.cached && JailPolicy::REQUIRE.is_met_by(strict.prepared_in));
}
