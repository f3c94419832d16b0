//! As much of the protobuf wire format as ONNX needs: writing fields, and walking a file's fields without loading it.

use std::io::{self, Read, Seek, SeekFrom};

/// Appends a base-128 varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field of wire type 0.
pub(crate) fn put_int(out: &mut Vec<u8>, field: u32, value: i64) {
    put_varint(out, u64::from(field) << 3);
    put_varint(out, value as u64);
}

/// Appends a field of wire type 5.
pub(crate) fn put_float(out: &mut Vec<u8>, field: u32, value: f32) {
    put_varint(out, u64::from(field) << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends the tag and length of a field of wire type 2, whose `len` bytes the caller appends.
pub(crate) fn put_header(out: &mut Vec<u8>, field: u32, len: u64) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, len);
}

/// Appends a field of wire type 2.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_header(out, field, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A file is not well-formed protobuf, or could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtoError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0} at byte {1}")]
    Malformed(&'static str, u64),
}

/// A field of a message inside a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) value: Value,
}

/// A field's value: a scalar, or where the bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    Int(u64),
    Bytes(Span),
    /// Of wire type 1 or 5; nothing here needs one.
    Fixed,
}

/// A range of bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// Walks messages in a file of which only the headers fit in memory.
pub(crate) struct Walker<R> {
    input: R,
    position: u64,
    len: u64,
}

impl<R: Read + Seek> Walker<R> {
    /// A walker over all of the input.
    pub(crate) fn new(mut input: R) -> io::Result<Self> {
        let len = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        Ok(Self { input, position: 0, len })
    }

    /// The whole file as one message.
    pub(crate) fn all(&self) -> Span {
        Span { start: 0, end: self.len }
    }

    /// The field at `span.start`, moving it past the field; `None` at the span's end.
    pub(crate) fn next(&mut self, span: &mut Span) -> Result<Option<Field>, ProtoError> {
        if span.start >= span.end {
            return Ok(None);
        }
        self.seek(span.start)?;
        let tag = self.varint(span.end)?;
        let number = u32::try_from(tag >> 3).map_err(|_| self.malformed("a field number is out of range"))?;
        let value = match tag & 7 {
            0 => Value::Int(self.varint(span.end)?),
            1 | 5 => {
                let size = if tag & 7 == 1 { 8 } else { 4 };
                self.skip(size, span.end)?;
                Value::Fixed
            }
            2 => {
                let len = self.varint(span.end)?;
                let start = self.position;
                self.skip(len, span.end)?;
                Value::Bytes(Span { start, end: start + len })
            }
            _ => return Err(self.malformed("a field has an unknown wire type")),
        };
        span.start = self.position;
        Ok(Some(Field { number, value }))
    }

    /// The bytes of a span as text, refused over `limit` bytes.
    pub(crate) fn text(&mut self, span: Span, limit: u64) -> Result<String, ProtoError> {
        let len = span.end - span.start;
        if len > limit {
            return Err(ProtoError::Malformed("a name is too long", span.start));
        }
        self.seek(span.start)?;
        let mut bytes = vec![0; len as usize];
        self.input.read_exact(&mut bytes)?;
        self.position = span.end;
        String::from_utf8(bytes).map_err(|_| ProtoError::Malformed("a name is not UTF-8", span.start))
    }

    fn varint(&mut self, end: u64) -> Result<u64, ProtoError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            if self.position >= end {
                return Err(self.malformed("a number is cut short"));
            }
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            self.position += 1;
            let bits = u64::from(byte[0] & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed("a number is too long"))
    }

    fn skip(&mut self, len: u64, end: u64) -> Result<(), ProtoError> {
        if len > end - self.position {
            return Err(self.malformed("a field is longer than what holds it (a truncated file?)"));
        }
        self.seek(self.position + len)
    }

    /// Relative seeks keep a `BufReader`'s buffer.
    fn seek(&mut self, to: u64) -> Result<(), ProtoError> {
        let offset = to as i64 - self.position as i64;
        if offset != 0 {
            self.input.seek_relative(offset)?;
            self.position = to;
        }
        Ok(())
    }

    fn malformed(&self, what: &'static str) -> ProtoError {
        ProtoError::Malformed(what, self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn walk(bytes: &[u8]) -> Result<Vec<Field>, ProtoError> {
        let mut walker = Walker::new(Cursor::new(bytes)).expect("a cursor seeks");
        let mut span = walker.all();
        let mut fields = Vec::new();
        while let Some(field) = walker.next(&mut span)? {
            fields.push(field);
        }
        Ok(fields)
    }

    #[test]
    fn what_is_written_is_walked() {
        let mut bytes = Vec::new();
        put_int(&mut bytes, 1, 300);
        put_int(&mut bytes, 2, -1);
        put_float(&mut bytes, 3, 1.5);
        put_bytes(&mut bytes, 20, b"name");
        // Protocol Buffers' own example of 300 as a varint.
        assert_eq!(bytes[..3], [0x08, 0xac, 0x02]);
        let end = bytes.len() as u64;
        assert_eq!(
            walk(&bytes).unwrap(),
            [
                Field { number: 1, value: Value::Int(300) },
                Field { number: 2, value: Value::Int(u64::MAX) },
                Field { number: 3, value: Value::Fixed },
                Field { number: 20, value: Value::Bytes(Span { start: end - 4, end }) },
            ]
        );
        for cut in [1, 2, 5, 9, bytes.len() - 1] {
            assert!(walk(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_fields_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(fields) = walk(&bytes) {
                prop_assert!(fields.len() <= bytes.len());
            }
        }
    }
}
