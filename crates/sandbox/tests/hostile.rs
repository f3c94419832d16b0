//! Programs that mean harm, run as any device runs them: each ends by a clear answer, within its limits, and what ran
//! it can run the next one.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod bombs;
mod device;
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod guests;

use caii_model::{Bytes, ItemError, Manifest, Millis, TrapKind};
use caii_sandbox::{Runner, StartError, inspect};
use device::Device;
use guests::menu;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Wall time within which an item ends by its fuel alone, even beside compilers.
const ITEM_MAX: Duration = Duration::from_secs(60);
/// Memory of a runner: the program's limit of 16 MiB, of which a table may exist twice while it grows, and what the
/// engine itself needs.
const RUNNER_MAX_KB: u64 = (2 * 16 + 48) << 10;
/// Wall time that compiling what compiles may take in these tests, even beside compilers.
const COMPILE_MAX: Duration = Duration::from_secs(120);
/// CPU time that compiling may take in these tests for what would take hours: less than devices give it, so that tests
/// end. And so long after it is used up it is over, even beside compilers.
const SLOW_CPU_MAX: Millis = Millis(2_000);
const SLOW_MAX: Duration = Duration::from_secs(60);
/// Wall time that inspecting any program may take.
const INSPECT_MAX: Duration = Duration::from_secs(20);
/// Memory that compiling may take, and that it may take until it is cut off: the runner's own limit on its data.
const COMPILE_MAX_KB: u64 = 1 << 20;
const SLOW_MAX_KB: u64 = (4 << 20) + ((6 * 16) << 10);

/// What a program of `guests/hostile/` comes to.
enum End {
    /// It is refused before it is compiled, or while it is initialised; the message has these words.
    Refused(&'static str),
    /// Each item ends so.
    Item(Result<&'static [u8], ItemError>),
}

const OUT_OF_FUEL: End = End::Item(Err(ItemError::FuelExhausted));
const NOTHING: End = End::Item(Ok(b""));

const fn trap(kind: TrapKind) -> End {
    End::Item(Err(ItemError::Trap(kind)))
}

const CORPUS: &[(&str, End)] = &[
    ("memory-bomb", OUT_OF_FUEL),
    ("memory-grow-storm", OUT_OF_FUEL),
    ("memory-fill", OUT_OF_FUEL),
    ("table-bomb", End::Refused("65.5 kB of memory and 128.0 MB of tables, more than its limit of 16.7 MB")),
    ("table-fill", NOTHING),
    ("table-grow-beyond", NOTHING),
    ("table-grow-storm", OUT_OF_FUEL),
    ("stack-bomb", trap(TrapKind::StackOverflow)),
    ("stack-bomb-in-host-call", trap(TrapKind::StackOverflow)),
    ("output-flood", End::Item(Err(ItemError::OutputTooLarge))),
    // Paid for before it is done.
    ("output-flood-gathered", OUT_OF_FUEL),
    ("stderr-flood", OUT_OF_FUEL),
    ("read-nothing", OUT_OF_FUEL),
    ("blob-reads", OUT_OF_FUEL),
    ("open-forever", OUT_OF_FUEL),
    ("path-flood", OUT_OF_FUEL),
    ("poll-forever", OUT_OF_FUEL),
    ("random-flood", OUT_OF_FUEL),
    ("random-gigabytes", OUT_OF_FUEL),
    ("wild-pointers", NOTHING),
    ("endless-loop", OUT_OF_FUEL),
    ("endless-start", OUT_OF_FUEL),
    ("start-calls-host", End::Item(Err(ItemError::Exit(9)))),
    ("data-beyond-memory", trap(TrapKind::OutOfBounds)),
    ("data-far-beyond-memory", trap(TrapKind::OutOfBounds)),
    ("elements-beyond-table", trap(TrapKind::OutOfBounds)),
    ("import-foreign-module", End::Refused("., env.system, wasi_unstable.fd_write")),
    (
        "import-wrong-types",
        End::Refused(
            "wasi_snapshot_preview1.fd_write (as (func (param i64 i64 i64 i64) (result i32)), which is not its type)",
        ),
    ),
    ("import-no-functions", End::Refused("wasi_snapshot_preview1.fd_write (not a function)")),
    ("export-no-function", End::Refused("does not export the function `_start`")),
    ("export-host-function", End::Refused("does not export the function `_start`")),
    ("memory-too-large", End::Refused("more than its limit of 16.7 MB")),
    ("initialiser-endless", End::Refused("FuelExhausted")),
    ("initialiser-leaves", End::Refused("Exit(0)")),
    ("initialiser-floods", End::Refused("FuelExhausted")),
    ("initialiser-memory-bomb", NOTHING),
    ("initialiser-with-result", End::Refused("`wizer.initialize` as a function without parameters and results")),
    ("initialiser-of-reactor", End::Refused("`_initialize` as a function without parameters and results")),
    ("initialiser-names", End::Refused("begins with `__wizer_`")),
    ("initialiser-tables", End::Refused("table.set")),
    ("initialiser-and-start", NOTHING),
];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/hostile")
}

/// Another workload for the same device, which may take as long as its fuel lasts.
fn load(device: &mut Device, wasm: &[u8]) {
    device.load(wasm);
    device.manifest.limits.wall_per_item = Millis(ITEM_MAX.as_millis() as u64);
}

/// Whatever happened before: an honest program runs here.
async fn still_works(device: &mut Device) {
    load(device, &menu());
    let mut runner = device.start().await.unwrap();
    let run = runner.run(vec![b"ehello".to_vec()]).await.unwrap();
    assert_eq!(run.outcomes[0].result, Ok(b"hello".to_vec()));
    let left: Vec<_> = fs::read_dir(device.path("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let unfinished = left.iter().filter(|path| path.extension().is_none_or(|end| end == "tmp" || end == "new"));
    assert_eq!(unfinished.count(), 0, "{left:?}");
}

/// The most memory that a process had at once, in kB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

/// The same of all processes that this one started and that are gone.
fn peak_of_children() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    #[expect(unsafe_code, reason = "no safe wrapper tells what children used")]
    // SAFETY: the pointer is to a live local of the right type, and zeros are a valid value of it.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()), 0);
        usage.assume_init()
    };
    usage.ru_maxrss.cast_unsigned()
}

/// Runs it twice in one runner: it ends as expected, the same way each time, and the runner survives.
async fn attack(device: &mut Device, wasm: &[u8], end: &End) -> Result<(), String> {
    load(device, wasm);
    let (mut runner, expected) = match (device.start().await, end) {
        (Ok(runner), End::Item(expected)) => (runner, expected.map(<[u8]>::to_vec)),
        (Err(error), End::Refused(part)) if error.is_programs_fault() && error.to_string().contains(part) => {
            return Ok(());
        }
        (Ok(_), End::Refused(part)) => return Err(format!("it is not refused for «{part}»")),
        (Err(error), _) => return Err(format!("{error} ({error:?})")),
    };
    let begun = Instant::now();
    let run = runner.run(vec![b"item".to_vec(); 2]).await.map_err(|error| error.to_string())?;
    let (took, peak) = (begun.elapsed(), peak(runner.pid()));
    if run.outcomes[0].result != expected || run.outcomes[1] != run.outcomes[0] {
        return Err(format!("{:?}", run.outcomes));
    }
    if took > 2 * ITEM_MAX || peak > RUNNER_MAX_KB || run.outcomes[0].stderr.len() > 100 {
        return Err(format!("two items took {took:?} and {peak} kB"));
    }
    match runner.run(vec![]).await {
        Ok(run) if run.outcomes.is_empty() => Ok(()),
        other => Err(format!("afterwards: {other:?}")),
    }
}

#[tokio::test]
async fn the_corpus_ends_within_its_limits() {
    let mut device = Device::new(&menu());
    let mut wrong = Vec::new();
    for (name, end) in CORPUS {
        let text = fs::read(corpus().join(name).with_extension("wat")).unwrap();
        let wasm = wat::parse_bytes(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let begun = Instant::now();
        if let Err(text) = attack(&mut device, &wasm, end).await {
            wrong.push(format!("{name}: {text}"));
        }
        eprintln!("{name}: {:?}", begun.elapsed());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    still_works(&mut device).await;
}

#[test]
fn every_hostile_program_is_in_the_test() {
    let files = fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path());
    let found: BTreeSet<String> = files
        .filter(|path| path.extension().is_some_and(|end| end == "wat"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, CORPUS.iter().map(|(name, _)| (*name).to_owned()).collect());
}

/// What a bomb for the compiler comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fuse {
    /// It is compiled, and does nothing when it runs.
    Dud,
    /// Compiling it would take hours; it is cut off, and it is the program's fault.
    Slow,
    /// Compiling it would take all memory that there is; it is cut off, and it is the program's fault.
    Greedy,
}

/// A bomb is compiled, or cut off in time: never a hang, never more memory than allowed, and never the end of the
/// device. A pool inspects programs in its own process, so that must be fast whatever they are.
async fn explode(name: &str, wasm: &[u8], fuse: Fuse) {
    let mut device = Device::new(wasm);
    let begun = Instant::now();
    inspect(wasm).unwrap();
    let inspected = begun.elapsed();
    let mut spec = device.spec();
    // Were it not cut off otherwise, it would be then.
    spec.prepare_wall = Millis(2 * COMPILE_MAX.as_millis() as u64);
    if fuse == Fuse::Slow {
        spec.compile_cpu_max = SLOW_CPU_MAX;
    }
    let begun = Instant::now();
    match (Runner::start(spec).await, fuse) {
        (Ok((mut runner, _)), Fuse::Dud) => {
            let run = runner.run(vec![vec![]]).await.unwrap();
            assert_eq!(run.outcomes[0].result, Ok(vec![]));
            runner.kill().await;
        }
        (Err(error @ StartError::Program(_)), Fuse::Slow) => {
            assert!(error.to_string().contains("compiling it takes more than 2 s of CPU"), "{error}");
        }
        (Err(error @ StartError::Program(_)), Fuse::Greedy) => {
            assert!(error.to_string().contains("compiling it takes more than 4.3 GB of memory"), "{error}");
        }
        (end, _) => panic!("{end:?}"),
    }
    let took = begun.elapsed();
    let peak = until_children_are_gone().await;
    eprintln!("{name}: {} kB inspected in {inspected:?}, then {took:?} and {} MiB", wasm.len() >> 10, peak >> 10);
    assert!(inspected < INSPECT_MAX, "inspecting took {inspected:?}");
    let (time, most) = match fuse {
        Fuse::Dud => (COMPILE_MAX + ITEM_MAX, COMPILE_MAX_KB),
        Fuse::Slow => (SLOW_MAX, SLOW_MAX_KB),
        Fuse::Greedy => (COMPILE_MAX, SLOW_MAX_KB),
    };
    assert!(took < time, "{took:?}");
    assert!(peak < most, "a process had {peak} kB");
    still_works(&mut device).await;
}

/// Waits until no process that this one started is left; the most memory that one of them had, in kB.
async fn until_children_are_gone() -> u64 {
    for _ in 0..6_000 {
        let threads = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path().join("children"));
        // A thread can end between the listing and the look.
        if threads.map(|path| fs::read_to_string(path).unwrap_or_default()).all(|children| children.is_empty()) {
            return peak_of_children();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("processes stay");
}

macro_rules! bombs {
    ($($name:ident: $fuse:ident, $program:expr;)*) => { $(
        #[tokio::test]
        async fn $name() {
            explode(stringify!($name), &$program, Fuse::$fuse).await;
        }
    )* };
}

bombs! {
    compile_nested_blocks: Slow, bombs::nested_blocks(2_500_000);
    compile_nested_ifs: Slow, bombs::nested_ifs(1_500_000);
    compile_carried_values: Slow, bombs::carried_values(3_000, 3_000);
    compile_memory_beyond_all: Greedy, bombs::carried_values(20_000, 50_000);
    compile_jump_tables: Dud, bombs::jump_tables(110, 65_000);
    compile_many_locals: Dud, bombs::many_locals();
    compile_tall_stack: Dud, bombs::tall_stack(500_000);
    compile_long_function: Dud, bombs::long_function(400_000);
    compile_many_functions: Dud, bombs::many_functions(50_000);
    compile_long_constant: Dud, bombs::long_constant(200_000);
    compile_custom_sections: Dud, bombs::custom_sections(5_000_000);
    compile_large_custom_section: Dud, bombs::large_custom_section(64 << 20);
    compile_many_data: Dud, bombs::many_data(100_000);
}

#[tokio::test]
async fn a_program_larger_than_any_is_refused() {
    let device = Device::new(&bombs::large_custom_section((64 << 20) + 1));
    let error = device.start().await.unwrap_err();
    assert!(error.is_programs_fault() && error.to_string().contains("at most"), "{error}");
}

/// What the manifest says of itself is hostile, too.
#[tokio::test]
async fn limits_beyond_reason_are_refused() {
    let mut device = Device::new(&menu());
    for change in [
        |manifest: &mut Manifest| manifest.limits.memory = Bytes(u64::MAX),
        |manifest: &mut Manifest| manifest.limits.output_per_item = Bytes(u64::MAX),
        |manifest: &mut Manifest| manifest.limits.stderr_per_item = Bytes(u64::MAX),
        |manifest: &mut Manifest| manifest.args = vec!["x".into(); 257],
        |manifest: &mut Manifest| manifest.args = vec!["x".repeat(65_537)],
    ] {
        load(&mut device, &menu());
        change(&mut device.manifest);
        let error = device.start().await.unwrap_err();
        assert!(error.is_programs_fault(), "{error}");
    }
    still_works(&mut device).await;
}
