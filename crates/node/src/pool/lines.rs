//! Reads a text line by line in constant memory, whatever its lines hold.

use std::io::{self, BufRead};

/// The longest line, without its end. One more byte and the line is reported as too long without being kept.
pub(crate) const LINE_MAX: usize = 1 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One line without its line end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Its text, perhaps empty.
    Text(&'a str),
    /// It has more than [`LINE_MAX`] bytes; they were skipped.
    TooLong,
    /// The byte at this offset of the line begins what is no UTF-8.
    NotUtf8 { at: usize },
}

/// The lines of a text. Line ends are LF or CR LF; a byte order mark before the first line is dropped.
pub(crate) struct Lines<R> {
    reader: R,
    skip_blank: bool,
    number: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// With `skip_blank`, lines of nothing but white space are counted but not returned.
    pub(crate) fn new(reader: R, skip_blank: bool) -> Self {
        Self { reader, skip_blank, number: 0, line: Vec::new() }
    }

    /// The next line and its number from 1; nothing at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        let mut complete;
        loop {
            // The line end and a byte order mark do not count.
            let room = LINE_MAX + 1 + if self.number == 0 { BOM.len() } else { 0 };
            complete = match self.read(room)? {
                Some(complete) => complete,
                None => return Ok(None),
            };
            self.number += 1;
            if !(self.skip_blank && complete && self.text().trim_ascii().is_empty()) {
                break;
            }
        }
        let line = self.text();
        if !complete || line.len() > LINE_MAX {
            return Ok(Some((self.number, Line::TooLong)));
        }
        let line = match std::str::from_utf8(line) {
            Ok(text) => Line::Text(text),
            Err(error) => Line::NotUtf8 { at: error.valid_up_to() },
        };
        Ok(Some((self.number, line)))
    }

    fn text(&self) -> &[u8] {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        if self.number == 1 { line.strip_prefix(BOM).unwrap_or(line) } else { line }
    }

    /// Reads up to a line feed, which is not kept. Keeps at most `room` bytes; false when there were more.
    fn read(&mut self, room: usize) -> io::Result<Option<bool>> {
        self.line.clear();
        let (mut complete, mut any) = (true, false);
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                return Ok(any.then_some(complete));
            }
            any = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            if complete && self.line.len() + part.len() <= room {
                self.line.extend_from_slice(part);
            } else {
                complete = false;
            }
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Some(complete));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[track_caller]
    fn check(text: &[u8], expected: &[&str]) {
        // A buffer of 3 bytes makes every line end and mark fall across a border.
        for capacity in [3, 4, 1 << 16] {
            let mut lines = Lines::new(io::BufReader::with_capacity(capacity, text), false);
            let mut found = Vec::new();
            while let Some((number, line)) = lines.next().unwrap() {
                found.push(format!("{number} {line:?}"));
            }
            assert_eq!(found, expected, "with a buffer of {capacity}");
        }
    }

    #[test]
    fn line_ends_and_marks() {
        check(b"", &[]);
        check(b"\n", &["1 Text(\"\")"]);
        check(b"a\r\nb\n\nc", &["1 Text(\"a\")", "2 Text(\"b\")", "3 Text(\"\")", "4 Text(\"c\")"]);
        check(b"\xef\xbb\xbfa\n\xef\xbb\xbfb", &["1 Text(\"a\")", "2 Text(\"\\u{feff}b\")"]);
        check(b"a\rb\r", &["1 Text(\"a\\rb\")"]);
        check(b"ab\xff\nok", &["1 NotUtf8 { at: 2 }", "2 Text(\"ok\")"]);
    }

    #[test]
    fn blank_lines_are_counted_when_they_are_skipped() {
        let mut lines = Lines::new(&b"\xef\xbb\xbf \n\n a\n\r\n"[..], true);
        assert_eq!(lines.next().unwrap(), Some((3, Line::Text(" a"))));
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn the_longest_line_passes_and_one_more_byte_does_not() {
        for (text, fits) in [
            ("x".repeat(LINE_MAX), true),
            ("x".repeat(LINE_MAX) + "\r\n", true),
            ("\u{feff}".to_owned() + &"x".repeat(LINE_MAX) + "\r\n", true),
            ("x".repeat(LINE_MAX + 1), false),
            ("x".repeat(LINE_MAX + 1) + "\r\n", false),
        ] {
            let mut lines = Lines::new(text.as_bytes(), false);
            let (_, line) = lines.next().unwrap().unwrap();
            assert_eq!(matches!(line, Line::Text(_)), fits, "{} bytes", text.len());
            assert!(lines.next().unwrap().is_none());
        }
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let text = io::repeat(b'x').take(100 << 20).chain(&b"\nnext\n"[..]);
        let mut lines = Lines::new(io::BufReader::new(text), true);
        assert_eq!(lines.next().unwrap(), Some((1, Line::TooLong)));
        assert!(lines.line.capacity() <= 4 * LINE_MAX, "{} bytes were kept", lines.line.capacity());
        assert_eq!(lines.next().unwrap(), Some((2, Line::Text("next"))));
    }
}
