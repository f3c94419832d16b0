//! The part of WASI preview 1 that programs get: standard streams, read-only blobs under `/data`, a clock that stands
//! still and randomness drawn from the item. Every call is bounded and priced; none can reach anything else.
//!
//! All 46 functions exist, so that what ordinary toolchains emit links; those that make no sense here say so by their
//! error number.

mod names;

pub(crate) use names::signature;

use crate::engine::{MAX_TABLE_ELEMENTS, MAX_TABLES, TABLE_ELEMENT_BYTES};
use crate::meter::HOST_PRICES;
use crate::wipe::{self, Wiped};
use caii_model::{Bytes, Digest, Limits};
use names::*;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use wasmparser::ValType::I64;
use wasmtime::{Caller, Extern, FuncType, Linker, Memory, ResourceLimiter, Result, Trap, Val};

/// Descriptors of one instance.
const MAX_DESCRIPTORS: usize = 256;
/// Entries of one scatter or gather list, and subscriptions of one poll.
const MAX_ENTRIES: u32 = 1024;
/// Bytes of a path.
const MAX_PATH: u32 = 4096;
/// The directory's descriptor and name.
const DATA: u32 = 3;
const DATA_NAME: &[u8] = b"/data";

const DIRECTORY: u8 = 3;
const REGULAR_FILE: u8 = 4;
/// Neither terminal nor file: C libraries then buffer the stream in blocks.
const UNKNOWN_FILE: u8 = 0;

/// The program ended by `proc_exit`.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the program exited with code {0}")]
pub(crate) struct Exit(pub(crate) i32);

/// The program wrote more than its limit to standard output.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the program wrote more output than its manifest allows")]
pub(crate) struct OutputTooLarge;

/// This machine could not do what every machine must do alike. Nothing may be concluded about the program: the
/// process ends and the attempt fails.
#[derive(Debug, thiserror::Error)]
#[error("this device failed the program: {0}")]
pub(crate) struct HostFailure(pub(crate) String);

/// A read-only file of the workload, already open.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) file: File,
}

/// What all runs of one workload share.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) digest: Digest,
    /// The program's name and the manifest's arguments.
    pub(crate) args: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) blobs: Vec<Blob>,
}

#[derive(Debug, Clone, Copy)]
enum Descriptor {
    Stdin,
    Stdout,
    Stderr,
    Data,
    Blob { index: usize, position: u64 },
}

/// Which run this is: it decides what randomness is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Initialiser,
    Item,
}

/// The state of one run of a program.
pub(crate) struct Guest {
    workload: Arc<Workload>,
    run: Run,
    input: Wiped,
    input_read: usize,
    output: Wiped,
    stderr: Wiped,
    descriptors: Vec<Option<Descriptor>>,
    random: Option<Random>,
    memory: Option<Memory>,
    /// Bytes of linear memory and tables that it has.
    taken: u64,
}

impl Guest {
    /// A run on this input.
    pub(crate) fn item(workload: Arc<Workload>, input: Vec<u8>) -> Self {
        Self::new(workload, Run::Item, input)
    }

    /// The run of the initialiser: it has no input, and its output goes nowhere.
    pub(crate) fn initialiser(workload: Arc<Workload>) -> Self {
        Self::new(workload, Run::Initialiser, Vec::new())
    }

    fn new(workload: Arc<Workload>, run: Run, input: Vec<u8>) -> Self {
        let descriptors =
            [Descriptor::Stdin, Descriptor::Stdout, Descriptor::Stderr, Descriptor::Data].map(Some).to_vec();
        Self {
            workload,
            run,
            input: Wiped::new(input),
            input_read: 0,
            output: Wiped::default(),
            stderr: Wiped::default(),
            descriptors,
            random: None,
            memory: None,
            taken: 0,
        }
    }

    /// Memory and tables are counted together, and their limits are the program's own: the same on every device. What
    /// is allowed here and cannot be provided ends the run, so that nothing is counted in vain.
    fn take(&mut self, bytes: u64) -> bool {
        let taken = self.taken.saturating_add(bytes);
        let fits = taken <= self.workload.limits.memory.0;
        if fits {
            self.taken = taken;
        }
        fits
    }

    /// Standard output and standard error.
    pub(crate) fn into_streams(mut self) -> (Vec<u8>, Vec<u8>) {
        (std::mem::take(&mut *self.output), std::mem::take(&mut *self.stderr))
    }

    fn descriptor(&mut self, fd: u32) -> Option<&mut Descriptor> {
        self.descriptors.get_mut(fd as usize)?.as_mut()
    }

    fn write_output(&mut self, bytes: &[u8]) -> Result<()> {
        if self.run == Run::Initialiser {
            return Ok(());
        }
        if (self.output.len() + bytes.len()) as u64 > self.workload.limits.output_per_item.0 {
            return Err(OutputTooLarge.into());
        }
        wipe::reserve(&mut self.output, bytes.len());
        self.output.extend_from_slice(bytes);
        Ok(())
    }

    fn write_stderr(&mut self, bytes: &[u8]) {
        let room = self.workload.limits.stderr_per_item.0.saturating_sub(self.stderr.len() as u64);
        let kept = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        wipe::reserve(&mut self.stderr, kept);
        self.stderr.extend_from_slice(&bytes[..kept]);
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.take((desired - current) as u64))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        // Beyond the program's own maximum `memory.grow` gives -1 on every device. All else is this device's trouble.
        if error.to_string() == "memory growth exceeds memory type's limits" {
            return Ok(());
        }
        Err(HostFailure(format!("no memory for it: {error:#}")).into())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS
            && maximum.is_none_or(|maximum| desired <= maximum)
            && self.take((desired - current) as u64 * TABLE_ELEMENT_BYTES))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        Err(HostFailure(format!("no memory for its table: {error:#}")).into())
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        1
    }
}

/// A stream of bytes that is the same wherever the same item runs: SHA-256 of a seed and a counter.
struct Random {
    seed: Digest,
    blocks: u64,
    block: [u8; 32],
    used: usize,
}

impl Random {
    fn new(guest: &Guest) -> Self {
        let workload = &guest.workload.digest.0;
        let seed = match guest.run {
            Run::Initialiser => Digest::of_fields("caii random of an initialiser 1", &[workload]),
            Run::Item => Digest::of_fields("caii random of an item 1", &[workload, &guest.input]),
        };
        Self { seed, blocks: 0, block: [0; 32], used: 32 }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.len() {
                self.block = Digest::of_fields("caii random 1", &[&self.seed.0, &self.blocks.to_le_bytes()]).0;
                self.blocks += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

/// One host call: the guest's memory and the run's state, and the fuel to pay with.
struct Call<'a> {
    caller: Caller<'a, Guest>,
    memory: Memory,
}

/// What a call answers: an error number, or the end of the run.
enum Stop {
    Errno(i32),
    Run(wasmtime::Error),
}

impl From<wasmtime::Error> for Stop {
    fn from(error: wasmtime::Error) -> Self {
        Self::Run(error)
    }
}

type Answer<T = ()> = std::result::Result<T, Stop>;

fn errno<T>(number: i32) -> Answer<T> {
    Err(Stop::Errno(number))
}

impl<'a> Call<'a> {
    fn new(mut caller: Caller<'a, Guest>) -> Result<Self> {
        charge(&mut caller, HOST_PRICES.call)?;
        let memory = match caller.data().memory {
            Some(memory) => memory,
            None => {
                let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
                    // Inspection made sure; only a host call from a start function could come before.
                    return Err(Trap::MemoryOutOfBounds.into());
                };
                caller.data_mut().memory = Some(memory);
                memory
            }
        };
        Ok(Self { caller, memory })
    }

    fn charge(&mut self, fuel: u64) -> Answer {
        Ok(charge(&mut self.caller, fuel)?)
    }

    fn split(&mut self) -> (&mut [u8], &mut Guest) {
        self.memory.data_and_store_mut(&mut self.caller)
    }

    fn guest(&mut self) -> &mut Guest {
        self.caller.data_mut()
    }

    fn bytes(&self, at: u32, len: u32) -> Answer<&[u8]> {
        let memory = self.memory.data(&self.caller);
        (at as usize).checked_add(len as usize).and_then(|end| memory.get(at as usize..end)).ok_or(Stop::Errno(FAULT))
    }

    fn bytes_mut(&mut self, at: u32, len: u32) -> Answer<&mut [u8]> {
        let memory = self.memory.data_mut(&mut self.caller);
        let end = (at as usize).checked_add(len as usize);
        end.and_then(|end| memory.get_mut(at as usize..end)).ok_or(Stop::Errno(FAULT))
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Answer {
        self.bytes_mut(at, bytes.len() as u32)?.copy_from_slice(bytes);
        Ok(())
    }

    fn write_u32(&mut self, at: u32, value: u32) -> Answer {
        self.write(at, &value.to_le_bytes())
    }

    /// A list of buffers as (address, length), each inside memory, and their total length.
    fn buffers(&mut self, at: u32, count: u32) -> Answer<(Vec<(usize, usize)>, u64)> {
        if count > MAX_ENTRIES {
            return errno(INVAL);
        }
        let mut total = 0;
        let mut buffers = Vec::with_capacity(count as usize);
        let size = self.memory.data_size(&self.caller);
        for entry in self.bytes(at, count * 8)?.chunks_exact(8) {
            let (at, len) = (u32_of(&entry[..4]) as usize, u32_of(&entry[4..]) as usize);
            if at + len > size {
                return errno(FAULT);
            }
            total += len as u64;
            buffers.push((at, len));
        }
        Ok((buffers, total))
    }

    fn path(&mut self, at: u32, len: u32) -> Answer<Vec<u8>> {
        if len > MAX_PATH {
            return errno(NAMETOOLONG);
        }
        self.charge(u64::from(len) * HOST_PRICES.per_byte)?;
        Ok(self.bytes(at, len)?.to_vec())
    }
}

fn charge(caller: &mut Caller<'_, Guest>, fuel: u64) -> Result<()> {
    let left = caller.get_fuel()?;
    match left.checked_sub(fuel) {
        Some(left) => caller.set_fuel(left),
        None => {
            caller.set_fuel(0)?;
            Err(Trap::OutOfFuel.into())
        }
    }
}

fn u32_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("callers slice four bytes"))
}

/// A name under `/data`.
enum Place {
    Directory,
    Blob(usize),
}

fn resolve(guest: &Guest, directory: Option<Descriptor>, path: &[u8]) -> Answer<Place> {
    match directory {
        None => return errno(BADF),
        Some(Descriptor::Data) => {}
        Some(_) => return errno(NOTDIR),
    }
    if path.starts_with(b"/") {
        return errno(NOTCAPABLE);
    }
    let mut name: Option<&[u8]> = None;
    let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").peekable();
    while let Some(part) = parts.next() {
        if part == b".." {
            return errno(NOTCAPABLE);
        }
        if parts.peek().is_some() {
            // Blobs have no children, and there are no directories.
            let exists = guest.workload.blobs.iter().any(|blob| blob.name.as_bytes() == part);
            return errno(if exists { NOTDIR } else { NOENT });
        }
        name = Some(part);
    }
    match name {
        None if path.is_empty() => errno(NOENT),
        None => Ok(Place::Directory),
        Some(name) => match guest.workload.blobs.iter().position(|blob| blob.name.as_bytes() == name) {
            Some(_) if path.ends_with(b"/") => errno(NOTDIR),
            Some(index) => Ok(Place::Blob(index)),
            None => errno(NOENT),
        },
    }
}

fn filestat(inode: u64, kind: u8, size: u64) -> [u8; 64] {
    let mut stat = [0; 64];
    stat[8..16].copy_from_slice(&inode.to_le_bytes());
    stat[16] = kind;
    stat[24..32].copy_from_slice(&1_u64.to_le_bytes());
    stat[32..40].copy_from_slice(&size.to_le_bytes());
    stat
}

fn place_stat(guest: &Guest, place: &Place) -> [u8; 64] {
    match place {
        Place::Directory => filestat(1, DIRECTORY, 0),
        Place::Blob(index) => filestat(*index as u64 + 2, REGULAR_FILE, guest.workload.blobs[*index].size),
    }
}

/// Reads exactly the blob's bytes at `position` into the buffers, as far as both reach.
fn read_blob(call: &mut Call<'_>, index: usize, position: u64, list: u32, count: u32) -> Answer<u64> {
    let (buffers, room) = call.buffers(list, count)?;
    let left = call.guest().workload.blobs[index].size.saturating_sub(position);
    let mut wanted = room.min(left);
    call.charge(HOST_PRICES.kernel_call)?;
    call.charge(u64::from(count) * HOST_PRICES.per_entry + wanted * HOST_PRICES.per_byte)?;
    let (memory, guest) = call.split();
    let blob = &guest.workload.blobs[index];
    let mut done = 0;
    for (at, len) in buffers {
        let len = len.min(usize::try_from(wanted).unwrap_or(usize::MAX));
        // A file that became shorter is this device's fault, not the end of the file.
        blob.file
            .read_exact_at(&mut memory[at..at + len], position + done)
            .map_err(|error| wasmtime::Error::from(HostFailure(format!("cannot read /data/{}: {error}", blob.name))))?;
        done += len as u64;
        wanted -= len as u64;
    }
    Ok(done)
}

fn read_input(call: &mut Call<'_>, list: u32, count: u32) -> Answer<u64> {
    let (buffers, room) = call.buffers(list, count)?;
    let left = call.guest().input.len() - call.guest().input_read;
    let mut wanted = usize::try_from(room).unwrap_or(usize::MAX).min(left);
    call.charge(u64::from(count) * HOST_PRICES.per_entry + wanted as u64 * HOST_PRICES.per_byte)?;
    let (memory, guest) = call.split();
    let total = wanted;
    for (at, len) in buffers {
        let len = len.min(wanted);
        memory[at..at + len].copy_from_slice(&guest.input[guest.input_read..guest.input_read + len]);
        guest.input_read += len;
        wanted -= len;
    }
    Ok(total as u64)
}

fn fd_read(mut call: Call<'_>, fd: u32, list: u32, count: u32, read: u32) -> Answer {
    let done = match call.guest().descriptor(fd).copied() {
        Some(Descriptor::Stdin) => read_input(&mut call, list, count)?,
        Some(Descriptor::Blob { index, position }) => {
            let done = read_blob(&mut call, index, position, list, count)?;
            if let Some(descriptor) = call.guest().descriptor(fd) {
                *descriptor = Descriptor::Blob { index, position: position + done };
            }
            done
        }
        Some(Descriptor::Data) => return errno(ISDIR),
        Some(Descriptor::Stdout | Descriptor::Stderr) | None => return errno(BADF),
    };
    // No overflow: a read fills at most the guest's memory many times, but never beyond the file or the input.
    call.write_u32(read, u32::try_from(done).map_err(|_| Stop::Errno(INVAL))?)
}

fn fd_pread(mut call: Call<'_>, fd: u32, list: u32, count: u32, position: u64, read: u32) -> Answer {
    let done = match call.guest().descriptor(fd).copied() {
        Some(Descriptor::Blob { index, .. }) => read_blob(&mut call, index, position, list, count)?,
        Some(Descriptor::Stdin) => return errno(SPIPE),
        Some(Descriptor::Data) => return errno(ISDIR),
        Some(Descriptor::Stdout | Descriptor::Stderr) | None => return errno(BADF),
    };
    call.write_u32(read, u32::try_from(done).map_err(|_| Stop::Errno(INVAL))?)
}

fn fd_write(mut call: Call<'_>, fd: u32, list: u32, count: u32, written: u32) -> Answer {
    let to_output = match call.guest().descriptor(fd) {
        Some(Descriptor::Stdout) => true,
        Some(Descriptor::Stderr) => false,
        Some(Descriptor::Stdin | Descriptor::Data | Descriptor::Blob { .. }) | None => return errno(BADF),
    };
    let (buffers, total) = call.buffers(list, count)?;
    let total = u32::try_from(total).map_err(|_| Stop::Errno(INVAL))?;
    call.charge(u64::from(count) * HOST_PRICES.per_entry + u64::from(total) * HOST_PRICES.per_byte)?;
    let (memory, guest) = call.split();
    for (at, len) in buffers {
        let bytes = &memory[at..at + len];
        if to_output { guest.write_output(bytes)? } else { guest.write_stderr(bytes) }
    }
    call.write_u32(written, total)
}

fn fd_seek(mut call: Call<'_>, fd: u32, offset: i64, whence: u32, result: u32) -> Answer {
    let guest = call.guest();
    let blobs = Arc::clone(&guest.workload);
    let target = match guest.descriptor(fd) {
        Some(Descriptor::Blob { index, position }) => {
            let base = match whence {
                0 => 0,
                1 => *position,
                2 => blobs.blobs[*index].size,
                _ => return errno(INVAL),
            };
            let target = base.checked_add_signed(offset).filter(|target| i64::try_from(*target).is_ok());
            *position = target.ok_or(Stop::Errno(INVAL))?;
            *position
        }
        Some(Descriptor::Data) => return errno(ISDIR),
        Some(Descriptor::Stdin | Descriptor::Stdout | Descriptor::Stderr) => return errno(SPIPE),
        None => return errno(BADF),
    };
    call.write(result, &target.to_le_bytes())
}

fn fd_close(mut call: Call<'_>, fd: u32) -> Answer {
    match call.guest().descriptors.get_mut(fd as usize) {
        Some(slot) if slot.is_some() => {
            *slot = None;
            Ok(())
        }
        _ => errno(BADF),
    }
}

fn fd_renumber(mut call: Call<'_>, from: u32, to: u32) -> Answer {
    let guest = call.guest();
    if guest.descriptor(from).is_none() || guest.descriptor(to).is_none() {
        return errno(BADF);
    }
    let moved = guest.descriptors[from as usize].take();
    guest.descriptors[to as usize] = moved;
    Ok(())
}

fn fd_fdstat_get(mut call: Call<'_>, fd: u32, result: u32) -> Answer {
    const READ: u64 = 1 << 1;
    const SEEK: u64 = 1 << 2;
    const TELL: u64 = 1 << 5;
    const WRITE: u64 = 1 << 6;
    const PATH_OPEN: u64 = 1 << 13;
    const READDIR: u64 = 1 << 14;
    const PATH_FILESTAT: u64 = 1 << 18;
    const FILESTAT: u64 = 1 << 21;
    const POLL: u64 = 1 << 27;
    const FILE: u64 = READ | SEEK | TELL | FILESTAT | POLL;
    let (kind, rights, inherited) = match call.guest().descriptor(fd) {
        Some(Descriptor::Stdin) => (UNKNOWN_FILE, READ | FILESTAT | POLL, 0),
        Some(Descriptor::Stdout | Descriptor::Stderr) => (UNKNOWN_FILE, WRITE | FILESTAT | POLL, 0),
        // C libraries ask for no right that cannot be inherited, and would then open a blob for writing in vain: with
        // this right they ask for it and are refused.
        Some(Descriptor::Data) => (DIRECTORY, PATH_OPEN | READDIR | PATH_FILESTAT | FILESTAT, FILE | READDIR | WRITE),
        Some(Descriptor::Blob { .. }) => (REGULAR_FILE, FILE, 0),
        None => return errno(BADF),
    };
    let mut stat = [0; 24];
    stat[0] = kind;
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    stat[16..24].copy_from_slice(&inherited.to_le_bytes());
    call.write(result, &stat)
}

fn fd_filestat_get(mut call: Call<'_>, fd: u32, result: u32) -> Answer {
    let guest = call.guest();
    let stat = match guest.descriptor(fd).copied() {
        Some(Descriptor::Stdin | Descriptor::Stdout | Descriptor::Stderr) => filestat(0, UNKNOWN_FILE, 0),
        Some(Descriptor::Data) => place_stat(guest, &Place::Directory),
        Some(Descriptor::Blob { index, .. }) => place_stat(guest, &Place::Blob(index)),
        None => return errno(BADF),
    };
    call.write(result, &stat)
}

fn fd_readdir(mut call: Call<'_>, fd: u32, at: u32, len: u32, cookie: u64, used: u32) -> Answer {
    match call.guest().descriptor(fd) {
        Some(Descriptor::Data) => {}
        Some(_) => return errno(NOTDIR),
        None => return errno(BADF),
    }
    let workload = Arc::clone(&call.guest().workload);
    let mut listing = Vec::new();
    let start = usize::try_from(cookie).unwrap_or(usize::MAX);
    for (index, blob) in workload.blobs.iter().enumerate().skip(start) {
        listing.extend_from_slice(&(index as u64 + 1).to_le_bytes());
        listing.extend_from_slice(&(index as u64 + 2).to_le_bytes());
        listing.extend_from_slice(&(blob.name.len() as u32).to_le_bytes());
        listing.extend_from_slice(&[REGULAR_FILE, 0, 0, 0]);
        listing.extend_from_slice(blob.name.as_bytes());
    }
    // A listing that fills the buffer tells the caller that there is more.
    listing.truncate(len as usize);
    call.charge(workload.blobs.len() as u64 * HOST_PRICES.per_entry + listing.len() as u64 * HOST_PRICES.per_byte)?;
    call.write(at, &listing)?;
    call.write_u32(used, listing.len() as u32)
}

/// The arguments of `path_open` that matter here.
struct Open {
    directory: u32,
    path: u32,
    path_len: u32,
    oflags: u32,
    rights: u64,
    fdflags: u32,
    result: u32,
}

fn path_open(mut call: Call<'_>, open: Open) -> Answer {
    const CREATE: u32 = 1;
    const DIRECTORY_ONLY: u32 = 2;
    const EXCLUSIVE: u32 = 4;
    const TRUNCATE: u32 = 8;
    const APPEND: u32 = 1;
    const WRITE_RIGHT: u64 = 1 << 6;
    let path = call.path(open.path, open.path_len)?;
    let guest = call.guest();
    let directory = guest.descriptor(open.directory).copied();
    let place = resolve(guest, directory, &path);
    if open.oflags & TRUNCATE != 0 || open.fdflags & APPEND != 0 {
        return errno(ROFS);
    }
    let place = match place {
        Err(Stop::Errno(NOENT)) if open.oflags & CREATE != 0 => return errno(ROFS),
        Ok(_) if open.oflags & CREATE != 0 && open.oflags & EXCLUSIVE != 0 => return errno(EXIST),
        place => place?,
    };
    let descriptor = match place {
        // Toolchains ask for every right on directories.
        Place::Directory => Descriptor::Data,
        Place::Blob(_) if open.oflags & DIRECTORY_ONLY != 0 => return errno(NOTDIR),
        Place::Blob(_) if open.rights & WRITE_RIGHT != 0 => return errno(ROFS),
        Place::Blob(index) => Descriptor::Blob { index, position: 0 },
    };
    let free = guest.descriptors.iter().position(Option::is_none);
    let fd = match free {
        Some(fd) => fd,
        None if guest.descriptors.len() < MAX_DESCRIPTORS => {
            guest.descriptors.push(None);
            guest.descriptors.len() - 1
        }
        None => return errno(MFILE),
    };
    guest.descriptors[fd] = Some(descriptor);
    call.write_u32(open.result, fd as u32)
}

fn path_filestat_get(mut call: Call<'_>, directory: u32, path: u32, path_len: u32, result: u32) -> Answer {
    let path = call.path(path, path_len)?;
    let guest = call.guest();
    let directory = guest.descriptor(directory).copied();
    let place = resolve(guest, directory, &path)?;
    let stat = place_stat(guest, &place);
    call.write(result, &stat)
}

/// Time stands still, so every subscription is due at once.
fn poll_oneoff(mut call: Call<'_>, subscriptions: u32, events: u32, count: u32, result: u32) -> Answer {
    if count == 0 || count > MAX_ENTRIES {
        return errno(INVAL);
    }
    call.charge(u64::from(count) * (HOST_PRICES.per_entry + 80 * HOST_PRICES.per_byte))?;
    let mut answer = Vec::with_capacity(count as usize * 32);
    let left = call.guest().input.len() - call.guest().input_read;
    for subscription in call.bytes(subscriptions, count * 48)?.chunks_exact(48) {
        let kind = subscription[8];
        if kind > 2 {
            return errno(INVAL);
        }
        let ready: u64 = if kind == 1 { left as u64 } else { 0 };
        answer.extend_from_slice(&subscription[..8]);
        answer.extend_from_slice(&[0, 0, kind, 0, 0, 0, 0, 0]);
        answer.extend_from_slice(&ready.to_le_bytes());
        answer.extend_from_slice(&[0; 8]);
    }
    call.write(events, &answer)?;
    call.write_u32(result, count)
}

fn random_get(mut call: Call<'_>, at: u32, len: u32) -> Answer {
    if call.guest().random.is_none() {
        let hashed = call.guest().input.len() as u64;
        call.charge(hashed * HOST_PRICES.per_byte)?;
        let random = Random::new(call.guest());
        call.guest().random = Some(random);
    }
    call.charge(u64::from(len) * HOST_PRICES.per_random_byte)?;
    call.bytes(at, len)?;
    let (memory, guest) = call.split();
    let random = guest.random.as_mut().expect("set above");
    random.fill(&mut memory[at as usize..at as usize + len as usize]);
    Ok(())
}

/// Writes strings as C wants them: pointers at `pointers`, the bytes, each ended by zero, at `at`.
fn write_strings(mut call: Call<'_>, strings: &[String], pointers: u32, at: u32) -> Answer {
    let total: u64 = strings.iter().map(|text| text.len() as u64 + 1).sum();
    call.charge(HOST_PRICES.moving(strings.len() as u64, total))?;
    let mut next = at;
    for (place, text) in (0_u32..).zip(strings) {
        let pointer = place.checked_mul(4).and_then(|offset| pointers.checked_add(offset)).ok_or(Stop::Errno(FAULT))?;
        call.write_u32(pointer, next)?;
        call.write(next, text.as_bytes())?;
        next = next.checked_add(text.len() as u32).ok_or(Stop::Errno(FAULT))?;
        call.write(next, &[0])?;
        next = next.checked_add(1).ok_or(Stop::Errno(FAULT))?;
    }
    Ok(())
}

fn write_sizes(mut call: Call<'_>, strings: &[String], count: u32, size: u32) -> Answer {
    call.write_u32(count, strings.len() as u32)?;
    call.write_u32(size, strings.iter().map(|text| text.len() as u32 + 1).sum())
}

fn finish(answer: Answer) -> Result<i32> {
    match answer {
        Ok(()) => Ok(SUCCESS),
        Err(Stop::Errno(number)) => Ok(number),
        Err(Stop::Run(error)) => Err(error),
    }
}

type Host<'a> = Caller<'a, Guest>;

/// Defines everything that programs may import.
pub(crate) fn define(linker: &mut Linker<Guest>) -> Result<()> {
    for (name, (params, _), number) in REFUSED {
        let params = params.iter().map(|ty| if *ty == I64 { wasmtime::ValType::I64 } else { wasmtime::ValType::I32 });
        let ty = FuncType::new(linker.engine(), params, [wasmtime::ValType::I32]);
        linker.func_new(MODULE, name, ty, |mut caller, _, results| {
            charge(&mut caller, HOST_PRICES.call)?;
            results[0] = Val::I32(*number);
            Ok(())
        })?;
    }
    linker.func_wrap(MODULE, "args_get", |caller: Host<'_>, pointers: u32, at: u32| {
        let workload = Arc::clone(&caller.data().workload);
        finish(write_strings(Call::new(caller)?, &workload.args, pointers, at))
    })?;
    linker.func_wrap(MODULE, "args_sizes_get", |caller: Host<'_>, count: u32, size: u32| {
        let workload = Arc::clone(&caller.data().workload);
        finish(write_sizes(Call::new(caller)?, &workload.args, count, size))
    })?;
    linker.func_wrap(MODULE, "environ_get", |caller: Host<'_>, pointers: u32, at: u32| {
        finish(write_strings(Call::new(caller)?, &[], pointers, at))
    })?;
    linker.func_wrap(MODULE, "environ_sizes_get", |caller: Host<'_>, count: u32, size: u32| {
        finish(write_sizes(Call::new(caller)?, &[], count, size))
    })?;
    linker.func_wrap(MODULE, "clock_res_get", |caller: Host<'_>, clock: u32, result: u32| {
        let mut call = Call::new(caller)?;
        finish(if clock > 3 { errno(INVAL) } else { call.write(result, &1_u64.to_le_bytes()) })
    })?;
    linker.func_wrap(MODULE, "clock_time_get", |caller: Host<'_>, clock: u32, _precision: u64, result: u32| {
        let mut call = Call::new(caller)?;
        finish(if clock > 3 { errno(INVAL) } else { call.write(result, &0_u64.to_le_bytes()) })
    })?;
    linker.func_wrap(MODULE, "fd_advise", |caller: Host<'_>, fd: u32, _offset: u64, _len: u64, _advice: u32| {
        let mut call = Call::new(caller)?;
        Ok(if call.guest().descriptor(fd).is_some() { SUCCESS } else { BADF })
    })?;
    linker.func_wrap(MODULE, "fd_fdstat_set_flags", |caller: Host<'_>, fd: u32, _flags: u32| {
        // Append and non-blocking mean nothing here; libraries set them before they know.
        let mut call = Call::new(caller)?;
        Ok(if call.guest().descriptor(fd).is_some() { SUCCESS } else { BADF })
    })?;
    linker.func_wrap(MODULE, "fd_close", |caller: Host<'_>, fd: u32| finish(fd_close(Call::new(caller)?, fd)))?;
    linker.func_wrap(MODULE, "fd_fdstat_get", |caller: Host<'_>, fd: u32, result: u32| {
        finish(fd_fdstat_get(Call::new(caller)?, fd, result))
    })?;
    linker.func_wrap(MODULE, "fd_filestat_get", |caller: Host<'_>, fd: u32, result: u32| {
        finish(fd_filestat_get(Call::new(caller)?, fd, result))
    })?;
    linker.func_wrap(
        MODULE,
        "fd_pread",
        |caller: Host<'_>, fd: u32, list: u32, count: u32, position: u64, read: u32| {
            finish(fd_pread(Call::new(caller)?, fd, list, count, position, read))
        },
    )?;
    linker.func_wrap(MODULE, "fd_prestat_get", |caller: Host<'_>, fd: u32, result: u32| {
        let mut call = Call::new(caller)?;
        let mut stat = [0; 8];
        stat[4..].copy_from_slice(&(DATA_NAME.len() as u32).to_le_bytes());
        let is_data = fd == DATA && call.guest().descriptor(fd).is_some();
        finish(if is_data { call.write(result, &stat) } else { errno(BADF) })
    })?;
    linker.func_wrap(MODULE, "fd_prestat_dir_name", |caller: Host<'_>, fd: u32, at: u32, len: u32| {
        let mut call = Call::new(caller)?;
        let is_data = fd == DATA && call.guest().descriptor(fd).is_some();
        finish(match len as usize {
            _ if !is_data => errno(BADF),
            len if len < DATA_NAME.len() => errno(NAMETOOLONG),
            _ => call.write(at, DATA_NAME),
        })
    })?;
    linker.func_wrap(MODULE, "fd_read", |caller: Host<'_>, fd: u32, list: u32, count: u32, read: u32| {
        finish(fd_read(Call::new(caller)?, fd, list, count, read))
    })?;
    linker.func_wrap(
        MODULE,
        "fd_readdir",
        |caller: Host<'_>, fd: u32, at: u32, len: u32, cookie: u64, used: u32| {
            finish(fd_readdir(Call::new(caller)?, fd, at, len, cookie, used))
        },
    )?;
    linker.func_wrap(MODULE, "fd_renumber", |caller: Host<'_>, from: u32, to: u32| {
        finish(fd_renumber(Call::new(caller)?, from, to))
    })?;
    linker.func_wrap(MODULE, "fd_seek", |caller: Host<'_>, fd: u32, offset: i64, whence: u32, result: u32| {
        finish(fd_seek(Call::new(caller)?, fd, offset, whence, result))
    })?;
    linker.func_wrap(MODULE, "fd_tell", |caller: Host<'_>, fd: u32, result: u32| {
        finish(fd_seek(Call::new(caller)?, fd, 0, 1, result))
    })?;
    linker.func_wrap(MODULE, "fd_write", |caller: Host<'_>, fd: u32, list: u32, count: u32, written: u32| {
        finish(fd_write(Call::new(caller)?, fd, list, count, written))
    })?;
    linker.func_wrap(
        MODULE,
        "path_filestat_get",
        |caller: Host<'_>, directory: u32, _flags: u32, path: u32, path_len: u32, result: u32| {
            finish(path_filestat_get(Call::new(caller)?, directory, path, path_len, result))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_open",
        |caller: Host<'_>,
         directory: u32,
         _lookup: u32,
         path: u32,
         path_len: u32,
         oflags: u32,
         rights: u64,
         _inherited: u64,
         fdflags: u32,
         result: u32| {
            let open = Open { directory, path, path_len, oflags, rights, fdflags, result };
            finish(path_open(Call::new(caller)?, open))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "poll_oneoff",
        |caller: Host<'_>, subscriptions: u32, events: u32, count: u32, result: u32| {
            finish(poll_oneoff(Call::new(caller)?, subscriptions, events, count, result))
        },
    )?;
    linker.func_wrap(MODULE, "proc_exit", |mut caller: Host<'_>, code: u32| -> Result<()> {
        charge(&mut caller, HOST_PRICES.call)?;
        Err(Exit(code.cast_signed()).into())
    })?;
    linker.func_wrap(MODULE, "random_get", |caller: Host<'_>, at: u32, len: u32| {
        finish(random_get(Call::new(caller)?, at, len))
    })?;
    linker.func_wrap(MODULE, "sched_yield", |caller: Host<'_>| {
        Call::new(caller)?;
        Ok(SUCCESS)
    })?;
    Ok(())
}

/// The limits on memory sizes that the host's arithmetic relies on.
pub(crate) const MAX_MEMORY: Bytes = Bytes(1 << 32);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::ValType::{self, I32};

    #[test]
    fn all_of_preview_1_is_defined_with_the_types_that_inspection_demands() {
        let engine = wasmtime::Engine::default();
        let mut linker = Linker::new(&engine);
        define(&mut linker).unwrap();
        let names: Vec<&str> = OFFERED.iter().map(|(name, _)| *name).chain(REFUSED.iter().map(|r| r.0)).collect();
        assert_eq!(names.len(), 46);
        let workload = Workload { digest: Digest::of(b""), args: vec![], limits: Limits::default(), blobs: vec![] };
        let mut store = wasmtime::Store::new(&engine, Guest::initialiser(Arc::new(workload)));
        for name in names {
            let function = linker.get(&mut store, MODULE, name).unwrap().into_func().expect(name);
            let ty = function.ty(&store);
            let (params, results) = signature(MODULE, name).unwrap();
            let same = |found: wasmtime::ValType, wanted: &ValType| match wanted {
                I32 => found.is_i32(),
                I64 => found.is_i64(),
                _ => false,
            };
            assert!(ty.params().len() == params.len() && ty.params().zip(params).all(|(f, w)| same(f, w)), "{name}");
            assert!(
                ty.results().len() == results.len() && ty.results().zip(results).all(|(f, w)| same(f, w)),
                "{name}"
            );
        }
    }
}
