//! A program made ready and run: initialise, snapshot, compile, then a fresh copy-on-write instance for every item.
//!
//! [`Program`] has no process around it. The agent runs programs through [`Runner`](crate::Runner); this is for
//! what the runner does inside, for tests of guests and for benchmarks of the engine alone.

use crate::engine::{self, Cpu};
use crate::inspect::{INITIALISER, ProgramError, inspect};
use crate::jail::JailLayer;
use crate::meter::FloatNan;
use crate::wasi::{self, Blob, Exit, Guest, HostFailure, OutputTooLarge, Workload};
use caii_model::{Bytes, Digest, Fuel, ItemError, ItemOutcome, Manifest, TrapKind};
use std::fs::File;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use wasmtime::{Engine, Instance, InstancePre, Linker, Module, ModuleExport, Store, Trap, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

/// A program with its blobs, ready to run items.
pub struct Program {
    instance: InstancePre<Guest>,
    start: ModuleExport,
    workload: Arc<Workload>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("workload", &self.workload).finish_non_exhaustive()
    }
}

/// Why a program could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The program cannot run on any device.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The manifest names a meter that this build does not have.
    #[error("this build has no meter {0}; it has those that `supported_meters` lists")]
    UnknownMeter(Digest),
    /// Its initialiser failed, as it would on every device.
    #[error("the program's initialiser failed: {error:?}; it said: {}", String::from_utf8_lossy(.stderr).trim())]
    Initialiser {
        /// How.
        error: ItemError,
        /// What it wrote to standard error, within the manifest's limit.
        stderr: Vec<u8>,
    },
    /// The engine cannot hold the initialised program as a module.
    #[error("the initialised program cannot be snapshotted: {0}")]
    Snapshot(String),
    /// The engine refused a program that inspection accepted.
    #[error("the program cannot be compiled: {0}")]
    Compile(String),
    /// This device is at fault.
    #[error("{0}")]
    Host(String),
    /// The jail could not be closed before the initialiser.
    #[error("the jail is not closed: {layer}: {reason}")]
    Jail {
        /// What is open.
        layer: JailLayer,
        /// Why.
        reason: String,
    },
}

impl From<HostFailure> for PrepareError {
    fn from(failure: HostFailure) -> Self {
        Self::Host(failure.to_string())
    }
}

/// This device could not run an item as every device must; nothing follows about the item or the program.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RunFailure(String);

/// A program's compiled image and what making it cost.
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    pub(crate) init_fuel: Fuel,
}

/// The turns of [`prepare`], for whoever bounds what it does.
pub(crate) trait Preparing {
    /// From here on the compiler works on the program.
    fn compiling(&mut self) -> Result<(), PrepareError>;
    /// No more, up to the next such turn. Before the program's code runs; all of it that is executable then exists.
    fn compiled(&mut self) -> Result<(), PrepareError>;
}

/// Nobody bounds it: in this process, for programs that are trusted.
impl Preparing for () {
    fn compiling(&mut self) -> Result<(), PrepareError> {
        Ok(())
    }

    fn compiled(&mut self) -> Result<(), PrepareError> {
        Ok(())
    }
}

/// Initialises the program, if it has an initialiser, and compiles what it became.
pub(crate) fn prepare(
    engine: &Engine,
    workload: &Arc<Workload>,
    wasm: &[u8],
    turns: &mut dyn Preparing,
) -> Result<Image, PrepareError> {
    turns.compiling()?;
    let inspection = inspect(wasm)?;
    inspection.fits(&workload.limits)?;
    let compile = |wasm: &[u8]| {
        // Inspection validated the module, so what remains is the compiler's own limits: the same on every device.
        engine.precompile_module(wasm).map_err(|error| PrepareError::Compile(format!("{error:#}")))
    };
    if !inspection.has_initialiser {
        return Ok(Image { bytes: compile(wasm)?, init_fuel: Fuel(0) });
    }
    let (snapshot, init_fuel) = initialise(engine, workload, wasm, turns)?;
    Ok(Image { bytes: compile(&snapshot)?, init_fuel })
}

fn initialise(
    engine: &Engine,
    workload: &Arc<Workload>,
    wasm: &[u8],
    turns: &mut dyn Preparing,
) -> Result<(Vec<u8>, Fuel), PrepareError> {
    let snapshot_error = |error: wasmtime::Error| PrepareError::Snapshot(format!("{error:#}"));
    let compile_error = |error: wasmtime::Error| PrepareError::Compile(format!("{error:#}"));
    let mut wizer = Wizer::new();
    wizer.init_func(INITIALISER);
    // Instrumenting adds exports for what the snapshot reads; it touches no function, so fuel stays the program's own.
    let (context, instrumented) = wizer.instrument(wasm).map_err(snapshot_error)?;
    let module = Module::new(engine, &instrumented).map_err(compile_error)?;
    drop(instrumented);
    turns.compiled()?;

    let mut store = Store::new(engine, Guest::initialiser(Arc::clone(workload)));
    store.limiter(|guest| guest);
    let fuel = workload.limits.fuel_init.0;
    store.set_fuel(fuel).map_err(host)?;
    let mut run = || {
        let instance = linker(engine)?.instantiate(&mut store, &module)?;
        // Reactors are initialised before anything else, as Wizer does.
        for name in ["_initialize", INITIALISER] {
            if let Some(function) = instance.get_func(&mut store, name) {
                function.typed::<(), ()>(&store)?.call(&mut store, ())?;
            }
        }
        Ok(instance)
    };
    let instance = match run() {
        Ok(instance) => instance,
        Err(error) => {
            let error = classify(error)?.err().unwrap_or(ItemError::Exit(0));
            let (_, stderr) = store.into_data().into_streams();
            return Err(PrepareError::Initialiser { error, stderr });
        }
    };
    turns.compiling()?;
    let used = Fuel(fuel - store.get_fuel().map_err(host)?);
    let mut state = Initialised { store: &mut store, instance };
    let snapshot = ready(wizer.snapshot(&context, &mut state)).map_err(snapshot_error)?;
    Ok((snapshot, used))
}

/// What Wizer reads of an initialised instance.
struct Initialised<'a> {
    store: &'a mut Store<Guest>,
    instance: Instance,
}

impl InstanceState for Initialised<'_> {
    async fn global_get(&mut self, name: &str, _type: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut *self.store, name).expect("Wizer exported it");
        match global.get(&mut *self.store) {
            Val::I32(value) => SnapshotVal::I32(value),
            Val::I64(value) => SnapshotVal::I64(value),
            Val::F32(bits) => SnapshotVal::F32(bits),
            Val::F64(bits) => SnapshotVal::F64(bits),
            Val::V128(value) => SnapshotVal::V128(value.as_u128()),
            _ => unreachable!("inspection refuses mutable globals that hold references"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut *self.store, name).expect("Wizer exported it");
        contents(memory.data(&*self.store));
    }
}

/// The value of a future that never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("nothing that Wizer awaits here waits"),
    }
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasi::define(&mut linker)?;
    Ok(linker)
}

#[expect(clippy::needless_pass_by_value, reason = "a function for map_err")]
fn host(error: wasmtime::Error) -> PrepareError {
    PrepareError::Host(format!("the engine failed: {error:#}"))
}

/// What the end of a run says about the program; an error if it says something about this device instead.
fn classify(error: wasmtime::Error) -> Result<Result<(), ItemError>, HostFailure> {
    if let Some(Exit(code)) = error.downcast_ref() {
        return Ok(if *code == 0 { Ok(()) } else { Err(ItemError::Exit(*code)) });
    }
    if error.is::<OutputTooLarge>() {
        return Ok(Err(ItemError::OutputTooLarge));
    }
    let Some(trap) = error.downcast_ref::<Trap>() else {
        return Err(error.downcast::<HostFailure>().unwrap_or_else(|error| HostFailure(format!("{error:#}"))));
    };
    Ok(Err(match trap {
        Trap::OutOfFuel => ItemError::FuelExhausted,
        Trap::UnreachableCodeReached => ItemError::Trap(TrapKind::Unreachable),
        Trap::MemoryOutOfBounds | Trap::TableOutOfBounds => ItemError::Trap(TrapKind::OutOfBounds),
        Trap::StackOverflow => ItemError::Trap(TrapKind::StackOverflow),
        Trap::IndirectCallToNull | Trap::BadSignature => ItemError::Trap(TrapKind::BadCall),
        Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger => {
            ItemError::Trap(TrapKind::Arithmetic)
        }
        _ => ItemError::Trap(TrapKind::Other),
    }))
}

impl Program {
    /// Makes a program ready in this process.
    ///
    /// `blobs` are open files in the order of the manifest's. Takes seconds for a program that loads a model.
    ///
    /// # Errors
    /// See [`PrepareError`].
    pub fn prepare(manifest: &Manifest, wasm: &[u8], blobs: Vec<File>) -> Result<Self, PrepareError> {
        Ok(Self::prepare_on(Cpu::Host, manifest, wasm, blobs)?.0)
    }

    pub(crate) fn prepare_on(
        cpu: Cpu,
        manifest: &Manifest,
        wasm: &[u8],
        blobs: Vec<File>,
    ) -> Result<(Self, Fuel), PrepareError> {
        let nan = FloatNan::of_meter(manifest.meter).ok_or(PrepareError::UnknownMeter(manifest.meter.0))?;
        let names = manifest.blobs.iter().map(|blob| (blob.name.clone(), blob.size));
        let blobs = names.zip(blobs).map(|((name, size), file)| Blob { name, size: size.0, file }).collect();
        let workload = Arc::new(Workload {
            digest: manifest.digest(),
            args: command_line(&manifest.args),
            limits: manifest.limits,
            blobs,
        });
        let engine = engine::engine(nan, cpu).map_err(host)?;
        let image = prepare(&engine, &workload, wasm, &mut ())?;
        #[expect(unsafe_code, reason = "loading compiled code is unsafe by nature")]
        // SAFETY: the bytes come from `precompile_module` of this very engine and were never outside this process.
        let module = unsafe { Module::deserialize(&engine, &image.bytes) }.map_err(host)?;
        let program = Self::load(&engine, &module, workload).map_err(host)?;
        Ok((program, image.init_fuel))
    }

    /// Links a compiled program.
    pub(crate) fn load(engine: &Engine, module: &Module, workload: Arc<Workload>) -> wasmtime::Result<Self> {
        let instance = linker(engine)?.instantiate_pre(module)?;
        let start = module.get_export_index("_start");
        let start = start.ok_or_else(|| wasmtime::Error::msg("the compiled program has no `_start`"))?;
        Ok(Self { instance, start, workload })
    }

    /// Runs one item in a fresh instance.
    ///
    /// # Errors
    /// [`RunFailure`] when this device failed, not the item.
    pub fn run(&self, input: Vec<u8>) -> Result<ItemOutcome, RunFailure> {
        self.try_run(input).map_err(|failure| RunFailure(failure.to_string()))
    }

    fn try_run(&self, input: Vec<u8>) -> Result<ItemOutcome, HostFailure> {
        let mut store = Store::new(self.instance.module().engine(), Guest::item(Arc::clone(&self.workload), input));
        store.limiter(|guest| guest);
        let fuel = self.workload.limits.fuel_per_item.0;
        let engine_failed = |error: wasmtime::Error| HostFailure(format!("the engine failed: {error:#}"));
        store.set_fuel(fuel).map_err(engine_failed)?;
        let mut run = || {
            let instance = self.instance.instantiate(&mut store)?;
            let start = instance.get_module_export(&mut store, &self.start).and_then(wasmtime::Extern::into_func);
            let start = start.ok_or_else(|| wasmtime::Error::msg("`_start` is not a function"))?;
            start.typed::<(), ()>(&store)?.call(&mut store, ())
        };
        let result = run().map_or_else(classify, |()| Ok(Ok(())))?;
        let used = Fuel(fuel - store.get_fuel().map_err(engine_failed)?);
        let (output, stderr) = store.into_data().into_streams();
        let fuel = match result {
            Ok(()) | Err(ItemError::Exit(_)) => used,
            Err(ItemError::Trap(_) | ItemError::FuelExhausted | ItemError::OutputTooLarge) => ItemError::TRAP_CHARGE,
        };
        Ok(ItemOutcome { result: result.map(|()| output), fuel, stderr })
    }
}

/// The arguments that a program sees.
pub(crate) fn command_line(args: &[String]) -> Vec<String> {
    std::iter::once("guest".to_owned()).chain(args.iter().cloned()).collect()
}

/// The digest of a file's bytes and their number.
pub(crate) fn digest_of(file: &File) -> std::io::Result<(Digest, Bytes)> {
    use sha2::{Digest as _, Sha256};
    use std::os::unix::fs::FileExt as _;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok((Digest(hasher.finalize().into()), Bytes(at))),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
#[path = "../tests/guests/mod.rs"]
mod guests;

#[cfg(test)]
mod tests {
    use super::guests::*;
    use super::*;
    use crate::meter::{meter_id, vetted_meter_id};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::io::Write as _;
    use std::sync::LazyLock;

    fn blob() -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(BLOB).unwrap();
        file
    }

    fn prepare_with(wasm: &[u8], change: impl FnOnce(&mut Manifest)) -> Result<Program, PrepareError> {
        let mut manifest = manifest(wasm, meter_id());
        change(&mut manifest);
        Program::prepare(&manifest, wasm, vec![blob()])
    }

    static MENU: LazyLock<Program> = LazyLock::new(|| prepare_with(&menu(), |_| {}).unwrap());

    fn order(input: &[u8]) -> ItemOutcome {
        MENU.run(input.to_vec()).unwrap()
    }

    fn output(input: &[u8]) -> Vec<u8> {
        let outcome = order(input);
        outcome.result.unwrap_or_else(|error| panic!("{error:?}: {}", String::from_utf8_lossy(&outcome.stderr)))
    }

    fn error(input: &[u8]) -> ItemError {
        let outcome = order(input);
        let error = outcome.result.unwrap_err();
        if !matches!(error, ItemError::Exit(_)) {
            assert_eq!(outcome.fuel, ItemError::TRAP_CHARGE);
        }
        error
    }

    #[test]
    fn items_go_in_and_come_out() {
        assert_eq!(output(b""), b"");
        assert_eq!(output(b"e"), b"");
        assert_eq!(output("egrüß\0dich\n".as_bytes()), "grüß\0dich\n".as_bytes());
        let long: Vec<u8> = (0..900_000_u32).map(|n| n as u8).collect();
        assert_eq!(output(&[b"e", long.as_slice()].concat()), long);
        assert_eq!(output(b"a"), "guest\0--flag\0ü\0".as_bytes());
        // Reading on after the end gives nothing, again and again.
        assert_eq!(output(b"p"), [0; 8]);
    }

    #[test]
    fn failures_are_told_apart() {
        let outcome = order(b"x7 is what it was");
        assert_eq!(outcome.result, Err(ItemError::Exit(7)));
        assert_eq!(outcome.stderr, b"7 is what it was");
        assert_eq!(output(b"x0"), b"0");
        assert_eq!(error(b"u"), ItemError::Trap(TrapKind::Unreachable));
        assert_eq!(error(b"o"), ItemError::Trap(TrapKind::OutOfBounds));
        assert_eq!(error(b"s"), ItemError::Trap(TrapKind::StackOverflow));
        assert_eq!(error(b"c"), ItemError::Trap(TrapKind::BadCall));
        assert_eq!(error(b"t"), ItemError::Trap(TrapKind::BadCall));
        assert_eq!(error(b"d"), ItemError::Trap(TrapKind::Arithmetic));
        assert_eq!(error(b"f"), ItemError::Trap(TrapKind::Arithmetic));
        assert_eq!(error(b"l"), ItemError::FuelExhausted);
    }

    #[test]
    fn streams_are_bounded() {
        assert_eq!(error(b"w"), ItemError::OutputTooLarge);
        let mut exact = vec![b'e'; 1 + (1 << 20)];
        assert_eq!(output(&exact).len(), 1 << 20);
        exact.push(0);
        assert_eq!(error(&exact), ItemError::OutputTooLarge);
        let outcome = order(b"E");
        assert_eq!(outcome.result, Err(ItemError::Exit(3)));
        assert_eq!(outcome.stderr.len(), 100);
    }

    #[test]
    fn memory_grows_to_the_limit_and_no_further() {
        assert_eq!(output(b"m"), 244_u32.to_le_bytes(), "4 pages and 16 at a time within 16 MiB = 256 pages");
        // The program's own maximum counts too, and is not mistaken for this device's lack of memory.
        let text = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1 2)
            (func (export "_start") (drop (memory.grow (i32.const 1)))
              (call $exit (i32.sub (i32.const 1) (memory.grow (i32.const 1)))))"#;
        let program = prepare_with(&module(text), |_| {}).unwrap();
        assert_eq!(program.run(vec![]).unwrap().result, Err(ItemError::Exit(2)));
    }

    #[test]
    fn blobs_are_read_and_nothing_else() {
        assert_eq!(output(b"b"), &BLOB[2..]);
        let listing = output(b"L");
        assert_eq!(&listing[24..], b"blob");
        const NOENT: i32 = 44;
        const ROFS: i32 = 69;
        const NOTCAPABLE: i32 = 76;
        for (path, errno) in [
            ("Pnothing", NOENT),
            ("P../etc/passwd", NOTCAPABLE),
            ("P/etc/passwd", NOTCAPABLE),
            ("Pblob/..", NOENT + 10),
            ("P", NOENT),
            ("Px/y", NOENT),
            ("U", ROFS),
        ] {
            assert_eq!(error(path.as_bytes()), ItemError::Exit(100 + errno), "{path}");
        }
    }

    #[test]
    fn time_stands_still_and_randomness_belongs_to_the_item() {
        assert_eq!(output(b"k"), [0; 8]);
        let first = output(b"r one");
        assert_eq!(first, output(b"r one"));
        assert_ne!(first, output(b"r two"));
        let other = prepare_with(&menu(), |manifest| manifest.name = "other".into()).unwrap();
        assert_ne!(Ok(first), other.run(b"r one".to_vec()).unwrap().result);
    }

    #[test]
    fn every_item_starts_from_the_same_memory() {
        for _ in 0..3 {
            assert_eq!(output(b"g"), [1, 0, 0, 0, 1, 0, 0, 0]);
        }
    }

    #[test]
    fn an_initialised_program_keeps_what_its_initialiser_left() {
        let manifest = manifest(&initialised(), meter_id());
        let (program, fuel) = Program::prepare_on(Cpu::Host, &manifest, &initialised(), vec![blob()]).unwrap();
        assert!(fuel > Fuel(1_000));
        let first = program.run(vec![]).unwrap();
        let bytes = first.result.as_ref().unwrap();
        assert_eq!(&bytes[8..], b"b blob of the workload", "one more than what the initialiser read");
        assert_ne!(bytes[..8], [0; 8]);
        assert_eq!(program.run(vec![]).unwrap(), first);
        let (again, fuel_again) = Program::prepare_on(Cpu::Host, &manifest, &initialised(), vec![blob()]).unwrap();
        assert_eq!((again.run(vec![]).unwrap(), fuel_again), (first, fuel));
    }

    #[test]
    fn an_initialiser_that_fails_says_how() {
        let failed = |body: &str| match prepare_with(&with_initialiser(body), |_| {}) {
            Err(PrepareError::Initialiser { error, stderr }) => (error, stderr),
            other => panic!("{other:?}"),
        };
        assert_eq!(failed("(loop $ever (br $ever))").0, ItemError::FuelExhausted);
        assert_eq!(failed("unreachable").0, ItemError::Trap(TrapKind::Unreachable));
        let (error, stderr) =
            failed("(call $write (i32.const 2) (i32.const 32) (i32.const 4)) (call $proc_exit (i32.const 9))");
        assert_eq!((error, stderr.as_slice()), (ItemError::Exit(9), &b"blob"[..]));
        // It wants 64 MiB, gets none and writes there.
        match prepare_with(&large(), |_| {}) {
            Err(PrepareError::Initialiser { error, .. }) => assert_eq!(error, ItemError::Trap(TrapKind::OutOfBounds)),
            other => panic!("{other:?}"),
        }
        // Even a success that leaves early leaves nothing to take a snapshot of.
        assert_eq!(failed("(call $proc_exit (i32.const 0))").0, ItemError::Exit(0));
    }

    #[test]
    fn what_cannot_run_is_refused_with_its_reason() {
        let refused = |wasm: &[u8]| inspect(wasm).unwrap_err();
        let command = r#"(memory (export "memory") 1) (func (export "_start"))"#;
        let unknown = module(&format!(
            r#"(import "env" "launch" (func)) (import "wasi_snapshot_preview1" "fd_reed" (func))
               (import "wasi_snapshot_preview1" "fd_close" (func (param i64))) {command}"#
        ));
        let text = refused(&unknown).to_string();
        for name in ["env.launch", "wasi_snapshot_preview1.fd_reed", "wasi_snapshot_preview1.fd_close (as"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(matches!(refused(b""), ProgramError::NotWasm(_)));
        assert!(matches!(refused(b"#!/bin/sh\n"), ProgramError::NotWasm(_)));
        assert!(refused(b" (module)").to_string().contains("text format"));
        assert!(refused(b"\0asm\x0d\0\x01\0").to_string().contains("component"));
        for end in [4, 7, 8, 20, menu().len() / 2, menu().len() - 1] {
            assert!(inspect(&menu()[..end]).is_err(), "cut to {end}");
        }
        assert!(matches!(refused(&module(r#"(memory (export "memory") 1)"#)), ProgramError::NoExport(_)));
        assert!(matches!(refused(&module(r#"(func (export "_start"))"#)), ProgramError::NoExport(_)));
        assert!(matches!(refused(&vec![0; (64 << 20) + 1]), ProgramError::TooLarge { .. }));
        for body in [
            r#"(memory (export "memory") 1 1 shared)"#,
            r#"(memory (export "memory") i64 1)"#,
            r#"(memory (export "memory") 1) (memory 1)"#,
            r#"(memory (export "memory") 1) (func (result v128) (f32x4.relaxed_min (v128.const i64x2 0 0) (v128.const i64x2 0 0)))"#,
            r#"(memory (export "memory") 1) (func (param externref))"#,
            r#"(memory (export "memory") 1) (func $f (return_call $f))"#,
            r#"(memory (export "memory") 1) (tag)"#,
        ] {
            let wasm = module(&format!(r#"{body} (func (export "_start"))"#));
            assert!(matches!(refused(&wasm), ProgramError::Invalid(_)), "{body}: {:?}", refused(&wasm));
        }
        assert_eq!(refused(&module(&format!("{command} (table 1000001 funcref)"))), ProgramError::Tables);
        let table = r#"(table 1 funcref) (func (export "wizer.initialize") (table.set (i32.const 0) (ref.null func)))"#;
        assert_eq!(refused(&module(&format!("{command} {table}"))), ProgramError::CannotSnapshot("table.set"));

        let large = module(r#"(memory (export "memory") 1000) (func (export "_start"))"#);
        let inspection = inspect(&large).unwrap();
        assert_eq!(inspection.memory_initial, Bytes(65_536_000));
        assert!(matches!(inspection.fits(&limits()), Err(ProgramError::InitialMemory { .. })));
        assert!(matches!(prepare_with(&large, |_| {}), Err(PrepareError::Program(_))));
        assert!(inspect(&initialised()).unwrap().has_initialiser);
    }

    /// Every choice of the menu that ends, with inputs that matter to it.
    fn orders() -> Vec<Vec<u8>> {
        let numbers: Vec<u8> = (0..500_u32).map(|n| (n * n / 7) as u8).collect();
        let mut orders: Vec<Vec<u8>> = [
            "", "e", "ehello", "x3", "u", "o", "s", "c", "d", "m", "r", "r2", "k", "b", "L", "Pno", "E", "p", "g", "a",
            "w",
        ]
        .iter()
        .map(|order| order.as_bytes().to_vec())
        .collect();
        orders.push([b"v", numbers.as_slice()].concat());
        orders.push([b"e", numbers.as_slice()].concat());
        orders
    }

    static ALONE: LazyLock<BTreeMap<Vec<u8>, ItemOutcome>> =
        LazyLock::new(|| orders().into_iter().map(|order| (order.clone(), MENU.run(order).unwrap())).collect());

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn an_items_bytes_and_fuel_do_not_depend_on_its_neighbours(
            items in proptest::collection::vec(proptest::sample::select(orders()), 1..30)
        ) {
            for item in items {
                let outcome = MENU.run(item.clone()).unwrap();
                prop_assert_eq!(&outcome, &ALONE[&item]);
            }
        }
    }

    #[test]
    fn a_cpu_with_fewer_features_gives_the_same_bytes_and_fuel() {
        for wasm in [menu(), initialised()] {
            for meter in [meter_id(), vetted_meter_id()] {
                let manifest = manifest(&wasm, meter);
                let on = |cpu| Program::prepare_on(cpu, &manifest, &wasm, vec![blob()]).unwrap();
                let ((host, host_init), (masked, masked_init)) = (on(Cpu::Host), on(Cpu::Masked));
                assert_eq!(host_init, masked_init);
                for order in orders() {
                    assert_eq!(host.run(order.clone()).unwrap(), masked.run(order.clone()).unwrap(), "{order:?}");
                }
            }
        }
    }

    #[test]
    fn masking_the_cpu_changes_the_code() {
        let code = |cpu| engine::engine(FloatNan::Canonical, cpu).unwrap().precompile_module(&menu()).unwrap();
        assert_ne!(code(Cpu::Host), code(Cpu::Masked), "the test of masked CPUs would prove nothing");
    }

    #[test]
    fn nans_are_canonical_and_cost_the_same() {
        assert_eq!(output(b"N"), f64::from_bits(0x7ff8_0000_0000_0000).to_bits().to_le_bytes());
        let wasm = menu();
        let vetted = Program::prepare(&manifest(&wasm, vetted_meter_id()), &wasm, vec![blob()]).unwrap();
        for input in orders() {
            assert_eq!(vetted.run(input.clone()).unwrap().fuel, ALONE[&input].fuel);
        }
        let unknown = Manifest { meter: caii_model::MeterId(Digest::of(b"another")), ..manifest(&wasm, meter_id()) };
        assert!(matches!(Program::prepare(&unknown, &wasm, vec![blob()]), Err(PrepareError::UnknownMeter(_))));
    }

    /// Blessed: a change here is a new meter, and METER.md must say so.
    #[test]
    fn fuel_is_what_the_table_says() {
        let fuel = |item: &[u8]| order(item).fuel.0;
        // One byte more to echo: read and written once each.
        assert_eq!(fuel(b"eab") - fuel(b"ea"), 2);
        let text = r#"(memory (export "memory") 1)
            (func (export "_start") (local $n i32)
              (loop $more (br_if $more (i32.ne (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000)))))"#;
        let program = prepare_with(&module(text), |_| {}).unwrap();
        // Entry 1; each round: add, tee, ne, br_if.
        assert_eq!(program.run(vec![]).unwrap().fuel, Fuel(1 + 4 * 1000));
    }
}
