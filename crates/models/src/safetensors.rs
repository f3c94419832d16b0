//! Reading a safetensors file tensor by tensor, so that converting a model needs memory for one matrix at a time.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// The format's own bound on the header (its reference implementation refuses more).
const HEADER_MAX: u64 = 100_000_000;
const TENSORS_MAX: usize = 100_000;
/// Bytes of a tensor in memory at once while it streams.
const CHUNK: usize = 1 << 20;

/// A safetensors file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file could not be opened or read.
    #[error("reading the weights")]
    Io(#[from] io::Error),
    /// The header is not what the format says.
    #[error("the weights are no safetensors file: {0}")]
    Malformed(String),
    /// The header promises more bytes than the file holds.
    #[error("the weights are truncated: the header describes {expected} bytes, the file has {actual}; fetch it again")]
    Truncated {
        /// Bytes that the header describes, itself included.
        expected: u64,
        /// Bytes in the file.
        actual: u64,
    },
    /// A tensor that the architecture needs is not there.
    #[error("the weights have no tensor `{0}`")]
    Missing(String),
    /// A tensor has another shape than the configuration says.
    #[error("tensor `{name}` has shape {actual:?}, but config.json implies {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// What the configuration implies.
        expected: Vec<u64>,
        /// What the file says.
        actual: Vec<u64>,
    },
    /// A tensor's element type cannot be converted to f32.
    #[error(
        "tensor `{name}` is {dtype}; only F32, F16 and BF16 weights can be converted (export the model unquantised)"
    )]
    Dtype {
        /// The tensor.
        name: String,
        /// Its element type as the file names it.
        dtype: String,
    },
    /// A weight is infinite or not a number.
    #[error("tensor `{name}` holds {value} at element {index}: the weights are damaged")]
    NotFinite {
        /// The tensor.
        name: String,
        /// The first bad element.
        index: u64,
        /// What it holds.
        value: f32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// An open safetensors file whose header has been checked against its length.
pub(crate) struct Weights<R = BufReader<File>> {
    input: R,
    data_start: u64,
    entries: BTreeMap<String, Entry>,
}

impl<R> fmt::Debug for Weights<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights").field("tensors", &self.entries.len()).finish()
    }
}

impl Weights {
    /// Opens the file and checks its header: sizes, overlaps and the file's length.
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = File::open(path)?;
        let file_len = file.metadata()?.len();
        Self::read(BufReader::with_capacity(CHUNK, file), file_len)
    }
}

impl<R: Read + Seek> Weights<R> {
    /// The same of anything that holds so many bytes.
    pub(crate) fn read(mut input: R, file_len: u64) -> Result<Self, WeightsError> {
        let mut prefix = [0; 8];
        if file_len < 8 {
            return Err(WeightsError::Malformed(format!("it has only {file_len} bytes")));
        }
        input.read_exact(&mut prefix)?;
        let header_len = u64::from_le_bytes(prefix);
        if header_len > HEADER_MAX {
            return Err(WeightsError::Malformed(format!("its header claims {header_len} bytes")));
        }
        let data_start = 8 + header_len;
        if data_start > file_len {
            return Err(WeightsError::Truncated { expected: data_start, actual: file_len });
        }
        let mut header = vec![0; header_len as usize];
        input.read_exact(&mut header)?;
        let (entries, data_len) = parse_header(&header)?;
        let expected = data_start.saturating_add(data_len);
        if expected > file_len {
            return Err(WeightsError::Truncated { expected, actual: file_len });
        }
        if expected < file_len {
            return Err(WeightsError::Malformed(format!("{} bytes follow the last tensor", file_len - expected)));
        }
        Ok(Self { input, data_start, entries })
    }

    /// Whether there is such a tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Refuses unless the tensor exists, can be converted to f32 and has this shape.
    pub(crate) fn expect(&self, name: &str, shape: &[u64]) -> Result<(), WeightsError> {
        let entry = self.entry(name)?;
        dtype(name, entry)?;
        if entry.shape != shape {
            return Err(WeightsError::Shape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                actual: entry.shape.clone(),
            });
        }
        Ok(())
    }

    /// Gives the tensor's elements in order, in chunks, the first `limit` of them at most.
    pub(crate) fn stream<E: From<WeightsError>>(
        &mut self,
        name: &str,
        limit: u64,
        mut chunk: impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let entry = self.entry(name)?;
        let dtype = dtype(name, entry)?;
        let elements = ((entry.data_offsets.1 - entry.data_offsets.0) / dtype.size() as u64).min(limit);
        let start = self.data_start + entry.data_offsets.0;
        self.input.seek(SeekFrom::Start(start)).map_err(WeightsError::from)?;
        let most = elements.min((CHUNK / dtype.size()) as u64) as usize;
        let mut bytes = vec![0; most * dtype.size()];
        let mut values = Vec::with_capacity(most);
        let mut done = 0;
        while done < elements {
            let count = (elements - done).min(most as u64) as usize;
            let bytes = &mut bytes[..count * dtype.size()];
            self.input.read_exact(bytes).map_err(WeightsError::from)?;
            values.clear();
            match dtype {
                Dtype::F32 => values
                    .extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("chunks of four")))),
                Dtype::F16 => values.extend(bytes.chunks_exact(2).map(|b| from_f16(u16::from_le_bytes([b[0], b[1]])))),
                Dtype::Bf16 => {
                    let wide = |b: &[u8]| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
                    values.extend(bytes.chunks_exact(2).map(wide));
                }
            }
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(WeightsError::NotFinite {
                    name: name.to_owned(),
                    index: done + at as u64,
                    value: values[at],
                }
                .into());
            }
            chunk(&values)?;
            done += count as u64;
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry, WeightsError> {
        self.entries.get(name).ok_or_else(|| WeightsError::Missing(name.to_owned()))
    }
}

fn dtype(name: &str, entry: &Entry) -> Result<Dtype, WeightsError> {
    match entry.dtype.as_str() {
        "F32" => Ok(Dtype::F32),
        "F16" => Ok(Dtype::F16),
        "BF16" => Ok(Dtype::Bf16),
        other => Err(WeightsError::Dtype { name: name.to_owned(), dtype: other.to_owned() }),
    }
}

/// The tensors of a header and the length of the data behind it.
fn parse_header(header: &[u8]) -> Result<(BTreeMap<String, Entry>, u64), WeightsError> {
    let malformed = WeightsError::Malformed;
    let values: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|error| malformed(format!("its header is not JSON ({error})")))?;
    if values.len() > TENSORS_MAX {
        return Err(malformed(format!("it lists {} tensors", values.len())));
    }
    let mut entries = BTreeMap::new();
    for (name, value) in values {
        if name == "__metadata__" {
            continue;
        }
        let entry: Entry =
            serde_json::from_value(value).map_err(|error| malformed(format!("tensor `{name}`: {error}")))?;
        let (start, end) = entry.data_offsets;
        let len = end.checked_sub(start).ok_or_else(|| malformed(format!("tensor `{name}` ends before it starts")))?;
        // Types that cannot be converted are refused when a tensor of that type is needed: a model may carry others.
        if let Ok(dtype) = dtype(&name, &entry) {
            let elements = entry.shape.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
            if elements.and_then(|count| count.checked_mul(dtype.size() as u64)) != Some(len) {
                return Err(malformed(format!("tensor `{name}` has {len} bytes for shape {:?}", entry.shape)));
            }
        }
        entries.insert(name, entry);
    }
    let mut spans: Vec<(u64, u64)> = entries.values().map(|entry| entry.data_offsets).collect();
    spans.sort_unstable();
    let mut end = 0;
    for (start, next) in spans {
        if start != end {
            return Err(malformed(format!("its tensors overlap or leave a gap at byte {end}")));
        }
        end = next;
    }
    Ok((entries, end))
}

/// IEEE 754 binary16 to binary32, exactly.
fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10 & 0x1f);
    let mantissa = u32::from(bits & 0x3ff);
    match exponent {
        // Subnormal: mantissa * 2^-24, exact in f32.
        0 => f32::from_bits(sign | (mantissa as f32 * (1.0 / 16_777_216.0)).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | mantissa << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | mantissa << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn encode(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn read(weights: &mut Weights, name: &str) -> Result<Vec<f32>, WeightsError> {
        let mut all = Vec::new();
        weights.stream(name, u64::MAX, |chunk| {
            all.extend_from_slice(chunk);
            Ok::<_, WeightsError>(())
        })?;
        Ok(all)
    }

    fn sample() -> Vec<u8> {
        let header = r#"{"__metadata__":{"format":"pt"},
            "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "h":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},
            "b":{"dtype":"BF16","shape":[2],"data_offsets":[12,16]},
            "q":{"dtype":"I8","shape":[2],"data_offsets":[16,18]}}"#;
        let mut data = Vec::new();
        data.extend(1.5f32.to_le_bytes());
        data.extend((-2.0f32).to_le_bytes());
        data.extend(0x3e00u16.to_le_bytes());
        data.extend(0x0001u16.to_le_bytes());
        data.extend(0x3fc0u16.to_le_bytes());
        data.extend(0xc000u16.to_le_bytes());
        data.extend([1, 2]);
        encode(header, &data)
    }

    #[test]
    fn every_convertible_type_reads_as_f32() {
        let file = file(&sample());
        let mut weights = Weights::open(file.path()).unwrap();
        assert_eq!(read(&mut weights, "a").unwrap(), [1.5, -2.0]);
        assert_eq!(read(&mut weights, "h").unwrap(), [1.5, 2f32.powi(-24)]);
        assert_eq!(read(&mut weights, "b").unwrap(), [1.5, -2.0]);
        assert!(matches!(read(&mut weights, "q"), Err(WeightsError::Dtype { dtype, .. }) if dtype == "I8"));
        assert!(matches!(read(&mut weights, "z"), Err(WeightsError::Missing(name)) if name == "z"));
        assert!(matches!(weights.expect("a", &[3]), Err(WeightsError::Shape { .. })));
    }

    #[test]
    fn halves_convert_exactly() {
        // IEEE 754-2008 binary16: largest, smallest normal, infinity, negative zero.
        assert_eq!(from_f16(0x7bff), 65504.0);
        assert_eq!(from_f16(0x0400), 2f32.powi(-14));
        assert_eq!(from_f16(0x7c00), f32::INFINITY);
        assert_eq!(from_f16(0x8000).to_bits(), (-0.0f32).to_bits());
        assert!(from_f16(0x7e00).is_nan());
    }

    #[test]
    fn damage_is_named() {
        let good = sample();
        for cut in 0..good.len() {
            let file = file(&good[..cut]);
            assert!(Weights::open(file.path()).is_err(), "cut at {cut}");
        }
        let opened = |bytes: &[u8]| Weights::open(file(bytes).path()).unwrap_err().to_string();
        assert!(opened(&good[..good.len() - 1]).contains("truncated"));
        assert!(opened(&[good.as_slice(), b"x"].concat()).contains("1 bytes follow"));
        assert!(
            opened(&encode(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, &[0; 8])).contains("shape")
        );
        assert!(
            opened(&encode(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, &[0; 12])).contains("gap")
        );
        assert!(opened(&u64::MAX.to_le_bytes()).contains("claims"));

        let nan = encode(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &f32::NAN.to_le_bytes());
        let file = file(&nan);
        let error = read(&mut Weights::open(file.path()).unwrap(), "a").unwrap_err();
        assert_eq!(error.to_string(), "tensor `a` holds NaN at element 0: the weights are damaged");
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(at in 0usize..400, with in any::<u8>(), cut in 0usize..500) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] = with;
            bytes.truncate(cut);
            let file = file(&bytes);
            if let Ok(mut weights) = Weights::open(file.path()) {
                for name in weights.entries.keys().cloned().collect::<Vec<_>>() {
                    let _outcome = read(&mut weights, &name);
                }
            }
        }
    }
}
