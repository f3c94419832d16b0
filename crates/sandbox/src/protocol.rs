//! The conversation between an agent and its runner: frames on the runner's standard input and output.
//!
//! A frame is a length (u32, little endian) of all that follows, a tag and a body. Both sides decode with
//! [`decode`], which believes nothing: every length is checked against what is there and against its limit.

use crate::jail::{JailPolicy, JailReport, LayerState};
use caii_model::{Bytes, Digest, Fuel, ItemError, ItemOutcome, JailLayer, JailLayers, Limits, Millis, TrapKind};

/// The largest frame: an item or a result of this size is refused.
pub(crate) const MAX_FRAME: u32 = 512 << 20;
const MAX_ARGS: u32 = 256;
const MAX_TEXT: u32 = 64 << 10;
/// Blobs of one workload.
pub(crate) const MAX_BLOBS: u32 = 64;

/// What a runner is to do, told once, first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) stage: Stage,
    pub(crate) jail: JailPolicy,
    pub(crate) idle_priority: bool,
    pub(crate) native_nan: bool,
    pub(crate) workload: Digest,
    pub(crate) program: Digest,
    pub(crate) program_size: Bytes,
    pub(crate) args: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) blobs: Vec<BlobSetup>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Compile the program, run its initialiser and leave the image in the cache file.
    Prepare,
    /// Load the image of this digest and size from the cache file and run items.
    Run { image: Digest, image_size: Bytes },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobSetup {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) size: Bytes,
}

/// One message. Items and outcomes borrow from the buffer that they were read into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// To the runner, once.
    Setup(Setup),
    /// To the runner: one run of the program.
    Item(&'a [u8]),
    /// To the runner: no more items in this task.
    EndTask,
    /// From a preparing runner: the image is written, and what confined the making.
    Prepared { image: Digest, image_size: Bytes, init_fuel: Fuel, cpu_us: u64, jail: JailReport },
    /// From a runner that is ready for items: what confines it.
    Ready { jail: JailReport },
    /// From a runner that cannot do what it was set up for; it ends.
    Refused(Refusal),
    /// From the runner, in the items' order.
    Outcome(ItemOutcome),
    /// From the runner: all outcomes of the task are sent.
    TaskDone { cpu_us: u64 },
}

/// Why a runner cannot start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The program is at fault, on every device: what is wrong with it.
    Program(String),
    /// The initialiser failed, on every device; with its standard error.
    Initialiser(ItemError, Vec<u8>),
    /// The cached image is damaged or was made for something else.
    Image(String),
    /// This device cannot do it.
    Host(String),
    /// This device cannot confine it as its contributor insists: what it can.
    Jail(JailReport),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("a frame of {0} bytes; at most {MAX_FRAME} are allowed")]
    FrameTooLong(u32),
    #[error("a frame ends in the middle of a field")]
    Short,
    #[error("a frame is longer than its fields")]
    TrailingBytes,
    #[error("unknown tag {0}")]
    UnknownTag(u8),
    #[error("a field holds {0}, which is out of range")]
    OutOfRange(u64),
    #[error("a text is not UTF-8")]
    NotUtf8,
}

const SETUP: u8 = 1;
const ITEM: u8 = 2;
const END_TASK: u8 = 3;
const PREPARED: u8 = 0x81;
const READY: u8 = 0x82;
const REFUSED: u8 = 0x83;
const OUTCOME: u8 = 0x84;
const TASK_DONE: u8 = 0x85;

/// The length of the first frame in `bytes`, or nothing if more bytes are needed.
pub(crate) fn complete(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length);
    if length > MAX_FRAME {
        return Err(DecodeError::FrameTooLong(length));
    }
    Ok((rest.len() >= length as usize).then_some(4 + length as usize))
}

/// The first frame in `bytes` and its length, or nothing if more bytes are needed.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, DecodeError> {
    let Some(length) = complete(bytes)? else { return Ok(None) };
    let mut fields = Fields(&bytes[4..length]);
    let frame = match fields.u8()? {
        SETUP => Frame::Setup(fields.setup()?),
        ITEM => Frame::Item(std::mem::take(&mut fields.0)),
        END_TASK => Frame::EndTask,
        PREPARED => Frame::Prepared {
            image: fields.digest()?,
            image_size: Bytes(fields.u64()?),
            init_fuel: Fuel(fields.u64()?),
            cpu_us: fields.u64()?,
            jail: fields.jail_report()?,
        },
        READY => Frame::Ready { jail: fields.jail_report()? },
        REFUSED => Frame::Refused(match fields.u8()? {
            0 => Refusal::Program(fields.text()?),
            1 => {
                let error = fields.item_error()?;
                Refusal::Initialiser(error, fields.bytes(MAX_FRAME)?.to_vec())
            }
            2 => Refusal::Image(fields.text()?),
            3 => Refusal::Host(fields.text()?),
            4 => Refusal::Jail(fields.jail_report()?),
            other => return Err(DecodeError::OutOfRange(other.into())),
        }),
        OUTCOME => {
            let fuel = Fuel(fields.u64()?);
            let stderr = fields.bytes(MAX_FRAME)?.to_vec();
            let result = match fields.u8()? {
                0 => Ok(std::mem::take(&mut fields.0).to_vec()),
                1 => Err(fields.item_error()?),
                other => return Err(DecodeError::OutOfRange(other.into())),
            };
            Frame::Outcome(ItemOutcome { result, fuel, stderr })
        }
        TASK_DONE => Frame::TaskDone { cpu_us: fields.u64()? },
        tag => return Err(DecodeError::UnknownTag(tag)),
    };
    if !fields.0.is_empty() {
        return Err(DecodeError::TrailingBytes);
    }
    Ok(Some((frame, length)))
}

/// What remains of a frame's body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::OutOfRange(other.into())),
        }
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn digest(&mut self) -> Result<Digest, DecodeError> {
        Ok(Digest(self.array()?))
    }

    fn length(&mut self, most: u32) -> Result<usize, DecodeError> {
        let length = self.u32()?;
        if length > most {
            return Err(DecodeError::OutOfRange(length.into()));
        }
        Ok(length as usize)
    }

    fn bytes(&mut self, most: u32) -> Result<&'a [u8], DecodeError> {
        let length = self.length(most)?;
        self.take(length)
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let text = self.bytes(MAX_TEXT)?;
        Ok(std::str::from_utf8(text).map_err(|_| DecodeError::NotUtf8)?.to_owned())
    }

    fn setup(&mut self) -> Result<Setup, DecodeError> {
        let stage = match self.u8()? {
            0 => Stage::Prepare,
            1 => Stage::Run { image: self.digest()?, image_size: Bytes(self.u64()?) },
            other => return Err(DecodeError::OutOfRange(other.into())),
        };
        let may_lack = JailLayers(self.u32()?);
        if may_lack != may_lack.and(JailLayers::ALL) {
            return Err(DecodeError::OutOfRange(may_lack.0.into()));
        }
        let jail = JailPolicy { may_lack };
        let (idle_priority, native_nan) = (self.bool()?, self.bool()?);
        let (workload, program, program_size) = (self.digest()?, self.digest()?, Bytes(self.u64()?));
        let args = (0..self.length(MAX_ARGS)?).map(|_| self.text()).collect::<Result<_, _>>()?;
        let limits = Limits {
            fuel_per_item: Fuel(self.u64()?),
            fuel_init: Fuel(self.u64()?),
            memory: Bytes(self.u64()?),
            output_per_item: Bytes(self.u64()?),
            stderr_per_item: Bytes(self.u64()?),
            wall_per_item: Millis(self.u64()?),
        };
        let blobs = (0..self.length(MAX_BLOBS)?)
            .map(|_| Ok(BlobSetup { name: self.text()?, digest: self.digest()?, size: Bytes(self.u64()?) }))
            .collect::<Result<_, _>>()?;
        Ok(Setup { stage, jail, idle_priority, native_nan, workload, program, program_size, args, limits, blobs })
    }

    fn jail_layer(&mut self) -> Result<JailLayer, DecodeError> {
        let number = self.u8()?;
        JailLayer::ALL.get(usize::from(number)).copied().ok_or(DecodeError::OutOfRange(number.into()))
    }

    fn jail_report(&mut self) -> Result<JailReport, DecodeError> {
        let mut report = JailReport::default();
        let mut last = None;
        for _ in 0..self.length(JailLayer::ALL.len() as u32)? {
            let layer = self.jail_layer()?;
            // In order and each once, as they are written: one report has one form.
            if last.replace(layer).is_some_and(|last| last >= layer) {
                return Err(DecodeError::OutOfRange((layer as u8).into()));
            }
            let state = match self.bool()? {
                true => LayerState::Enforced,
                false => LayerState::Unavailable(self.text()?),
            };
            report.record(layer, state);
        }
        Ok(report)
    }

    fn item_error(&mut self) -> Result<ItemError, DecodeError> {
        Ok(match self.u8()? {
            0 => ItemError::Exit(self.u32()?.cast_signed()),
            1 => ItemError::FuelExhausted,
            2 => ItemError::OutputTooLarge,
            3 => {
                let kind = self.u8()?;
                let kind = TRAPS.get(usize::from(kind)).ok_or(DecodeError::OutOfRange(kind.into()))?;
                ItemError::Trap(*kind)
            }
            other => return Err(DecodeError::OutOfRange(other.into())),
        })
    }
}

/// In the order of their numbers.
const TRAPS: [TrapKind; 6] = [
    TrapKind::Unreachable,
    TrapKind::OutOfBounds,
    TrapKind::StackOverflow,
    TrapKind::BadCall,
    TrapKind::Arithmetic,
    TrapKind::Other,
];

/// Appends a frame. Texts that are too long are cut; nothing else in a frame is under the guest's control but the
/// streams, whose limits [`check_limits`] keeps below the frame's.
pub(crate) fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    match frame {
        Frame::Setup(setup) => put_setup(setup, out),
        Frame::Item(item) => {
            out.push(ITEM);
            out.extend_from_slice(item);
        }
        Frame::EndTask => out.push(END_TASK),
        Frame::Prepared { image, image_size, init_fuel, cpu_us, jail } => {
            out.push(PREPARED);
            out.extend_from_slice(&image.0);
            for number in [image_size.0, init_fuel.0, *cpu_us] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            put_jail_report(jail, out);
        }
        Frame::Ready { jail } => {
            out.push(READY);
            put_jail_report(jail, out);
        }
        Frame::Refused(refusal) => {
            out.push(REFUSED);
            match refusal {
                Refusal::Program(text) => put_tagged_text(0, text, out),
                Refusal::Initialiser(error, stderr) => {
                    out.push(1);
                    put_item_error(*error, out);
                    put_bytes(stderr, out);
                }
                Refusal::Image(text) => put_tagged_text(2, text, out),
                Refusal::Host(text) => put_tagged_text(3, text, out),
                Refusal::Jail(jail) => {
                    out.push(4);
                    put_jail_report(jail, out);
                }
            }
        }
        Frame::Outcome(outcome) => {
            out.push(OUTCOME);
            out.extend_from_slice(&outcome.fuel.0.to_le_bytes());
            put_bytes(&outcome.stderr, out);
            match &outcome.result {
                Ok(output) => {
                    out.push(0);
                    out.extend_from_slice(output);
                }
                Err(error) => {
                    out.push(1);
                    put_item_error(*error, out);
                }
            }
        }
        Frame::TaskDone { cpu_us } => {
            out.push(TASK_DONE);
            out.extend_from_slice(&cpu_us.to_le_bytes());
        }
    }
    let length = out.len() - start - 4;
    debug_assert!(length <= MAX_FRAME as usize);
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
}

/// The header of an item's frame, for items that are written without being copied.
pub(crate) fn item_header(len: usize) -> [u8; 5] {
    let [a, b, c, d] = (len as u32 + 1).to_le_bytes();
    [a, b, c, d, ITEM]
}

/// The largest item that fits a frame.
pub(crate) const MAX_ITEM: usize = MAX_FRAME as usize - 1;

/// Whether outcomes under these limits fit a frame.
pub(crate) fn check_limits(limits: &Limits) -> bool {
    let most = u64::from(MAX_FRAME) - 64;
    limits.output_per_item.0.checked_add(limits.stderr_per_item.0).is_some_and(|sum| sum <= most)
}

/// Whether a setup frame of this many arguments and blobs can be decoded.
pub(crate) fn check_setup(args: &[String], blobs: &[BlobSetup]) -> bool {
    args.len() <= MAX_ARGS as usize
        && blobs.len() <= MAX_BLOBS as usize
        && args.iter().chain(blobs.iter().map(|blob| &blob.name)).all(|text| text.len() <= MAX_TEXT as usize)
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_bytes(&text.as_bytes()[..text.floor_char_boundary(MAX_TEXT as usize)], out);
}

fn put_tagged_text(tag: u8, text: &str, out: &mut Vec<u8>) {
    out.push(tag);
    put_text(text, out);
}

fn put_jail_report(report: &JailReport, out: &mut Vec<u8>) {
    out.extend_from_slice(&(report.layers().count() as u32).to_le_bytes());
    for (layer, state) in report.layers() {
        out.extend_from_slice(&[layer as u8, u8::from(*state == LayerState::Enforced)]);
        if let LayerState::Unavailable(reason) = state {
            put_text(reason, out);
        }
    }
}

fn put_item_error(error: ItemError, out: &mut Vec<u8>) {
    match error {
        ItemError::Exit(code) => {
            out.push(0);
            out.extend_from_slice(&code.to_le_bytes());
        }
        ItemError::FuelExhausted => out.push(1),
        ItemError::OutputTooLarge => out.push(2),
        ItemError::Trap(kind) => {
            let place = TRAPS.iter().position(|found| *found == kind).expect("TRAPS lists every kind");
            out.extend_from_slice(&[3, place as u8]);
        }
    }
}

fn put_setup(setup: &Setup, out: &mut Vec<u8>) {
    out.push(SETUP);
    match setup.stage {
        Stage::Prepare => out.push(0),
        Stage::Run { image, image_size } => {
            out.push(1);
            out.extend_from_slice(&image.0);
            out.extend_from_slice(&image_size.0.to_le_bytes());
        }
    }
    out.extend_from_slice(&setup.jail.may_lack.0.to_le_bytes());
    out.extend_from_slice(&[setup.idle_priority, setup.native_nan].map(u8::from));
    out.extend_from_slice(&setup.workload.0);
    out.extend_from_slice(&setup.program.0);
    out.extend_from_slice(&setup.program_size.0.to_le_bytes());
    out.extend_from_slice(&(setup.args.len() as u32).to_le_bytes());
    for arg in &setup.args {
        put_text(arg, out);
    }
    let limits = &setup.limits;
    for number in [
        limits.fuel_per_item.0,
        limits.fuel_init.0,
        limits.memory.0,
        limits.output_per_item.0,
        limits.stderr_per_item.0,
        limits.wall_per_item.0,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&(setup.blobs.len() as u32).to_le_bytes());
    for blob in &setup.blobs {
        put_text(&blob.name, out);
        out.extend_from_slice(&blob.digest.0);
        out.extend_from_slice(&blob.size.0.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn errors() -> impl Strategy<Value = ItemError> {
        prop_oneof![
            any::<i32>().prop_map(ItemError::Exit),
            Just(ItemError::FuelExhausted),
            Just(ItemError::OutputTooLarge),
            proptest::sample::select(TRAPS.to_vec()).prop_map(ItemError::Trap),
        ]
    }

    fn digests() -> impl Strategy<Value = Digest> {
        any::<[u8; 32]>().prop_map(Digest)
    }

    fn setups() -> impl Strategy<Value = Setup> {
        let stage = prop_oneof![
            Just(Stage::Prepare),
            (digests(), any::<u64>()).prop_map(|(image, size)| Stage::Run { image, image_size: Bytes(size) }),
        ];
        let blob = (".{0,9}", digests(), any::<u64>()).prop_map(|(name, digest, size)| BlobSetup {
            name,
            digest,
            size: Bytes(size),
        });
        let limits = any::<[u64; 6]>().prop_map(|l| Limits {
            fuel_per_item: Fuel(l[0]),
            fuel_init: Fuel(l[1]),
            memory: Bytes(l[2]),
            output_per_item: Bytes(l[3]),
            stderr_per_item: Bytes(l[4]),
            wall_per_item: Millis(l[5]),
        });
        let texts = proptest::collection::vec(".{0,20}", 0..5);
        let blobs = proptest::collection::vec(blob, 0..5);
        (stage, any::<(u32, bool, bool)>(), digests(), digests(), any::<u64>(), texts, limits, blobs).prop_map(
            |(stage, (may_lack, idle_priority, native_nan), workload, program, size, args, limits, blobs)| Setup {
                stage,
                jail: JailPolicy { may_lack: JailLayers(may_lack).and(JailLayers::ALL) },
                idle_priority,
                native_nan,
                workload,
                program,
                program_size: Bytes(size),
                args,
                limits,
                blobs,
            },
        )
    }

    fn jails() -> impl Strategy<Value = JailReport> {
        let state = prop_oneof![Just(LayerState::Enforced), ".{0,30}".prop_map(LayerState::Unavailable)];
        let layer = proptest::sample::select(JailLayer::ALL.to_vec());
        proptest::collection::vec((layer, state), 0..9).prop_map(|layers| {
            let mut report = JailReport::default();
            layers.into_iter().for_each(|(layer, state)| report.record(layer, state));
            report
        })
    }

    fn frames() -> impl Strategy<Value = Frame<'static>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..100);
        prop_oneof![
            setups().prop_map(Frame::Setup),
            bytes().prop_map(|item| Frame::Item(item.leak())),
            Just(Frame::EndTask),
            (digests(), any::<[u64; 3]>(), jails()).prop_map(|(image, n, jail)| Frame::Prepared {
                image,
                image_size: Bytes(n[0]),
                init_fuel: Fuel(n[1]),
                cpu_us: n[2],
                jail,
            }),
            jails().prop_map(|jail| Frame::Ready { jail }),
            jails().prop_map(|jail| Frame::Refused(Refusal::Jail(jail))),
            ".{0,30}".prop_map(|text| Frame::Refused(Refusal::Program(text))),
            (errors(), bytes()).prop_map(|(error, stderr)| Frame::Refused(Refusal::Initialiser(error, stderr))),
            ".{0,30}".prop_map(|text| Frame::Refused(Refusal::Image(text))),
            ".{0,30}".prop_map(|text| Frame::Refused(Refusal::Host(text))),
            (prop_oneof![bytes().prop_map(Ok), errors().prop_map(Err)], any::<u64>(), bytes())
                .prop_map(|(result, fuel, stderr)| Frame::Outcome(ItemOutcome { result, fuel: Fuel(fuel), stderr })),
            any::<u64>().prop_map(|cpu_us| Frame::TaskDone { cpu_us }),
        ]
    }

    proptest! {
        #[test]
        fn frames_round_trip_and_every_prefix_asks_for_more(frame in frames(), tail in proptest::collection::vec(any::<u8>(), 0..9)) {
            let mut bytes = Vec::new();
            encode(&frame, &mut bytes);
            let length = bytes.len();
            for end in 0..length {
                prop_assert_eq!(decode(&bytes[..end]), Ok(None));
            }
            bytes.extend(tail);
            prop_assert_eq!(decode(&bytes), Ok(Some((frame, length))));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            // What it answers does not matter here, only that it answers.
            let _ = decode(&bytes);
        }

        #[test]
        fn damaged_frames_do_not_make_it_panic(frame in frames(), at in any::<proptest::sample::Index>(), value: u8) {
            let mut bytes = Vec::new();
            encode(&frame, &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = decode(&bytes);
            // A wrong length must never reach beyond the frame either.
            let length = u32::try_from(bytes.len() - 4).unwrap();
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_jail_report_has_one_form() {
        for layers in [[6_u8, 1, 0, 1], [0, 1, 0, 1]] {
            let body = [&[READY, 2, 0, 0, 0][..], &layers].concat();
            let frame = [&(body.len() as u32).to_le_bytes()[..], &body].concat();
            assert!(decode(&frame).is_err(), "{layers:?}");
        }
    }

    #[test]
    fn a_layer_that_nobody_knows_is_not_done_without() {
        let mut setup = vec![SETUP, 0];
        setup.extend_from_slice(&(1_u32 << JailLayer::ALL.len()).to_le_bytes());
        let frame = [&(setup.len() as u32).to_le_bytes()[..], &setup].concat();
        assert_eq!(decode(&frame), Err(DecodeError::OutOfRange(1 << JailLayer::ALL.len())));
    }

    #[test]
    fn lies_about_lengths_are_refused() {
        let mut long = (MAX_FRAME + 1).to_le_bytes().to_vec();
        long.push(ITEM);
        assert_eq!(decode(&long), Err(DecodeError::FrameTooLong(MAX_FRAME + 1)));
        assert_eq!(decode(&[0, 0, 0, 0]), Err(DecodeError::Short));
        assert_eq!(decode(&[2, 0, 0, 0, END_TASK, 0]), Err(DecodeError::TrailingBytes));
        assert_eq!(decode(&[1, 0, 0, 0, 99]), Err(DecodeError::UnknownTag(99)));
        // A refusal whose text claims more than the frame holds.
        assert_eq!(decode(&[6, 0, 0, 0, REFUSED, 0, 9, 0, 0, 0]), Err(DecodeError::Short));
        assert_eq!(decode(&[6, 0, 0, 0, REFUSED, 0, 255, 255, 255, 255]), Err(DecodeError::OutOfRange(0xffff_ffff)));
        assert_eq!(&item_header(3), &[4, 0, 0, 0, ITEM]);
    }
}
