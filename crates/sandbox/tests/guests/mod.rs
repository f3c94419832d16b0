//! Programs for tests, in the text format, and what tests need to run them.

use caii_model::{BlobRef, Bytes, Digest, Fuel, Limits, Manifest, MeterId, Millis, RuntimeClass, Scope};

/// Imports, memory, and functions to read and write. Page 0 below 4096 is scratch.
const PRELUDE: &str = r#"
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 32) "blob")
  (func $check (param i32) (if (local.get 0) (then (call $proc_exit (i32.add (i32.const 100) (local.get 0))))))
  ;; Reads to the end, to this address; the length.
  (func $read (param $fd i32) (param $at i32) (result i32) (local $start i32)
    (local.set $start (local.get $at))
    (block $end (loop $more
      (if (i32.gt_u (i32.add (local.get $at) (i32.const 65536)) (i32.mul (memory.size) (i32.const 65536)))
        (then (drop (memory.grow (i32.const 16)))))
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (i32.const 65536))
      (call $check (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $end (i32.eqz (i32.load (i32.const 8))))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
      (br $more)))
    (i32.sub (local.get $at) (local.get $start)))
  (func $write (param $fd i32) (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (call $check (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  ;; Opens /data/blob.
  (func $open (result i32)
    (call $check (call $path_open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 4) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
    (i32.load (i32.const 16)))
"#;

/// The first letter of its input says what it does.
const MENU: &str = r#"
  (table 4 funcref)
  (elem (i32.const 1) $number)
  (type $none (func))
  (type $result (func (result i32)))
  (global $calls (mut i32) (i32.const 0))
  (func $number (result i32) (i32.const 1))
  (func $deep (param i32) (result i32) (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (local.get 0)))
  (func (export "_start") (local $c i32) (local $len i32) (local $at i32) (local $n i32)
    (local.set $len (i32.sub (call $read (i32.const 0) (i32.const 4096)) (i32.const 1)))
    (local.set $at (i32.const 4097))
    (local.set $c (i32.load8_u (i32.const 4096)))
    (if (i32.lt_s (local.get $len) (i32.const 0)) (then (return)))
    ;; echo
    (if (i32.eq (local.get $c) (@e@)) (then (call $write (i32.const 1) (local.get $at) (local.get $len)) (return)))
    ;; exit
    (if (i32.eq (local.get $c) (@x@)) (then
      (call $write (i32.const 1) (local.get $at) (local.get $len))
      (call $write (i32.const 2) (local.get $at) (local.get $len))
      (call $proc_exit (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))))
    (if (i32.eq (local.get $c) (@u@)) (then unreachable))
    (if (i32.eq (local.get $c) (@o@)) (then (drop (i32.load (i32.const -8)))))
    (if (i32.eq (local.get $c) (@s@)) (then (drop (call $deep (i32.const 0)))))
    (if (i32.eq (local.get $c) (@c@)) (then (call_indirect (type $none) (i32.const 0))))
    (if (i32.eq (local.get $c) (@t@)) (then (call_indirect (type $none) (i32.const 1))))
    (if (i32.eq (local.get $c) (@d@)) (then (drop (i32.div_s (i32.const 1) (i32.sub (local.get $c) (@d@))))))
    (if (i32.eq (local.get $c) (@f@)) (then (drop (i32.trunc_f64_s (f64.const 1e30)))))
    ;; loop for ever
    (if (i32.eq (local.get $c) (@l@)) (then (loop $ever (br $ever))))
    ;; write for ever
    (if (i32.eq (local.get $c) (@w@)) (then
      (loop $ever (call $write (i32.const 1) (i32.const 4096) (i32.const 65536)) (br $ever))))
    ;; take all memory; say how many pages there were
    (if (i32.eq (local.get $c) (@m@)) (then
      (block $full (loop $more
        (br_if $full (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
        (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 1))
        (br $more)))
      (i32.store (i32.const 64) (memory.size))
      (call $write (i32.const 1) (i32.const 64) (i32.const 4)) (return)))
    ;; randomness
    (if (i32.eq (local.get $c) (@r@)) (then
      (call $check (call $random_get (i32.const 64) (i32.const 40)))
      (call $write (i32.const 1) (i32.const 64) (i32.const 40)) (return)))
    ;; clock
    (if (i32.eq (local.get $c) (@k@)) (then
      (i64.store (i32.const 64) (i64.const -1))
      (call $check (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 64)))
      (call $write (i32.const 1) (i32.const 64) (i32.const 8)) (return)))
    ;; blob
    (if (i32.eq (local.get $c) (@b@)) (then
      (local.set $n (call $open))
      (call $check (call $fd_seek (local.get $n) (i64.const 2) (i32.const 0) (i32.const 64)))
      (local.set $len (call $read (local.get $n) (i32.const 65536)))
      (call $check (call $fd_close (local.get $n)))
      (call $write (i32.const 1) (i32.const 65536) (local.get $len)) (return)))
    ;; listing of /data
    (if (i32.eq (local.get $c) (@L@)) (then
      (call $check (call $fd_readdir (i32.const 3) (i32.const 4096) (i32.const 4096) (i64.const 0) (i32.const 64)))
      (call $write (i32.const 1) (i32.const 4096) (i32.load (i32.const 64))) (return)))
    ;; a path that is not there: exits with 100 + error number
    (if (i32.eq (local.get $c) (@P@)) (then
      (call $check (call $path_open (i32.const 3) (i32.const 0) (local.get $at) (local.get $len) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))))
    ;; remove a blob: exits with 100 + error number
    (if (i32.eq (local.get $c) (@U@)) (then
      (call $check (call $unlink (i32.const 3) (i32.const 32) (i32.const 4)))))
    ;; a megabyte of standard error
    (if (i32.eq (local.get $c) (@E@)) (then
      (local.set $n (i32.const 16))
      (loop $more
        (call $write (i32.const 2) (i32.const 4096) (i32.const 65536))
        (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      (call $proc_exit (i32.const 3))))
    ;; read past the end of input, twice more
    (if (i32.eq (local.get $c) (@p@)) (then
      (i32.store (i32.const 64) (call $read (i32.const 0) (i32.const 65536)))
      (i32.store (i32.const 68) (call $read (i32.const 0) (i32.const 65536)))
      (call $write (i32.const 1) (i32.const 64) (i32.const 8)) (return)))
    ;; what did earlier items leave?
    (if (i32.eq (local.get $c) (@g@)) (then
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (i32.store (i32.const 3000) (i32.add (i32.load (i32.const 3000)) (i32.const 1)))
      (i32.store (i32.const 64) (global.get $calls))
      (i32.store (i32.const 68) (i32.load (i32.const 3000)))
      (call $write (i32.const 1) (i32.const 64) (i32.const 8)) (return)))
    ;; NaN bits
    (if (i32.eq (local.get $c) (@N@)) (then
      (f64.store (i32.const 64) (f64.convert_i32_u (i32.sub (local.get $c) (@N@))))
      (f64.store (i32.const 64) (f64.div (f64.load (i32.const 64)) (f64.load (i32.const 64))))
      (call $write (i32.const 1) (i32.const 64) (i32.const 8)) (return)))
    ;; arguments
    (if (i32.eq (local.get $c) (@a@)) (then
      (call $check (call $args_sizes_get (i32.const 64) (i32.const 68)))
      (call $check (call $args_get (i32.const 128) (i32.const 1024)))
      (call $write (i32.const 1) (i32.const 1024) (i32.load (i32.const 68))) (return)))
    ;; floats, SIMD and bit counts: sums over the input
    (if (i32.eq (local.get $c) (@v@)) (then
      (call $numbers (local.get $at) (local.get $len))
      (call $write (i32.const 1) (i32.const 64) (i32.const 48)) (return)))
    unreachable)
  (func $numbers (param $at i32) (param $len i32) (local $x f64) (local $v v128) (local $b i64)
    (local.set $x (f64.const 1))
    (local.set $v (f32x4.splat (f32.const 1)))
    (block $end (loop $more
      (br_if $end (i32.le_s (local.get $len) (i32.const 0)))
      (local.set $x (f64.add (f64.sqrt (f64.mul (local.get $x) (f64.const 1.000123)))
        (f64.convert_i32_u (i32.load8_u (local.get $at)))))
      (local.set $v (f32x4.add (f32x4.mul (local.get $v) (f32x4.splat (f32.const 0.9999)))
        (f32x4.convert_i32x4_u (v128.load32_splat (local.get $at)))))
      (local.set $v (f32x4.div (local.get $v) (f32x4.splat (f32.const 1.7))))
      (local.set $b (i64.add (i64.rotl (local.get $b) (i64.const 7))
        (i64.add (i64.popcnt (i64.load (local.get $at)))
          (i64.add (i64.clz (i64.load (local.get $at))) (i64.ctz (i64.load (local.get $at)))))))
      (v128.store (i32.const 96) (i8x16.swizzle
        (v128.xor (v128.load (i32.const 96)) (i8x16.popcnt (v128.load (local.get $at))))
        (v128.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (local.set $len (i32.sub (local.get $len) (i32.const 1)))
      (br $more)))
    (f64.store (i32.const 64) (local.get $x))
    (i64.store (i32.const 72) (local.get $b))
    (v128.store (i32.const 80) (local.get $v)))
"#;

/// Its initialiser reads the blob and draws randomness; an item writes what the initialiser left, and counts.
const INITIALISED: &str = r#"
  (global $len (mut i32) (i32.const 0))
  (func (export "wizer.initialize")
    (global.set $len (call $read (call $open) (i32.const 131072)))
    (call $check (call $random_get (i32.const 3000) (i32.const 8)))
    (call $write (i32.const 1) (i32.const 3000) (i32.const 8)))
  (func (export "_start")
    (i32.store8 (i32.const 131072) (i32.add (i32.load8_u (i32.const 131072)) (i32.const 1)))
    (call $write (i32.const 1) (i32.const 3000) (i32.const 8))
    (call $write (i32.const 1) (i32.const 131072) (global.get $len)))
"#;

/// Its initialiser fills 64 MiB; an item adds them up.
const LARGE: &str = r#"
  (func (export "wizer.initialize") (local $at i32)
    (drop (memory.grow (i32.const 1024)))
    (local.set $at (i32.const 262144))
    (loop $more
      (i32.store (local.get $at) (i32.or (local.get $at) (i32.const 1)))
      (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const 67371008)))))
  (func (export "_start") (local $at i32) (local $sum i64)
    (local.set $at (i32.const 262144))
    (loop $more
      (local.set $sum (i64.add (local.get $sum) (i64.load32_u (local.get $at))))
      (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const 67371008))))
    (i64.store (i32.const 64) (local.get $sum))
    (call $write (i32.const 1) (i32.const 64) (i32.const 8)))
"#;

fn assemble(body: &str) -> Vec<u8> {
    let mut text = format!("(module {PRELUDE} {body})");
    for letter in b'A'..=b'z' {
        text = text.replace(&format!("@{}@", char::from(letter)), &format!("i32.const {letter}"));
    }
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn menu() -> Vec<u8> {
    assemble(MENU)
}

pub(crate) fn initialised() -> Vec<u8> {
    assemble(INITIALISED)
}

pub(crate) fn large() -> Vec<u8> {
    assemble(LARGE)
}

/// A program with this initialiser, which an item never sees.
pub(crate) fn with_initialiser(body: &str) -> Vec<u8> {
    assemble(&format!(r#"(func (export "wizer.initialize") {body}) (func (export "_start"))"#))
}

/// A module with nothing of the prelude.
pub(crate) fn module(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {text})")).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) const BLOB: &[u8] = b"a blob of the workload";

pub(crate) fn limits() -> Limits {
    Limits {
        fuel_per_item: Fuel(500_000_000),
        fuel_init: Fuel(500_000_000),
        memory: Bytes::mebi(16),
        output_per_item: Bytes::mebi(1),
        stderr_per_item: Bytes(100),
        wall_per_item: Millis(120_000),
    }
}

/// A manifest of this program, with [`BLOB`] as `/data/blob`.
pub(crate) fn manifest(wasm: &[u8], meter: MeterId) -> Manifest {
    Manifest {
        name: "test".into(),
        program: Digest::of(wasm),
        program_size: Bytes(wasm.len() as u64),
        runtime: RuntimeClass::Wasm,
        scope: Scope::Item { records: 1 },
        blobs: vec![BlobRef { name: "blob".into(), digest: Digest::of(BLOB), size: Bytes(BLOB.len() as u64) }],
        args: vec!["--flag".into(), "ü".into()],
        limits: limits(),
        meter,
    }
}
