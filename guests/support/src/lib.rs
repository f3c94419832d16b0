//! What every guest shares: its item comes from stdin, its result goes to stdout, its failure to stderr.
//!
//! A guest's `main` is `caii_guest::run(limit, |item, args| …)`. The function inside is pure, so guests are tested
//! natively without running a sandbox.

mod options;
mod random;
mod record;

pub use options::Options;
pub use random::Random;
pub use record::Record;

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// Reads the whole item, applies `work` to it and to the program's arguments (without its name), and writes the result.
///
/// An item longer than `limit_bytes`, an error of `work` and a failed read or write end the program with exit code 1
/// and one line on stderr, which is the reason shown to the requester. Nothing is written to stdout in that case.
pub fn run<E: Display>(limit_bytes: usize, work: impl FnOnce(&[u8], &[String]) -> Result<Vec<u8>, E>) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = read_item(&mut io::stdin().lock(), limit_bytes)
        .and_then(|item| work(&item, &args).map_err(|error| error.to_string()))
        .and_then(|result| write_result(&mut io::stdout().lock(), &result));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Stderr is all that is left to report on; there is nobody to tell when it is closed too.
            let _ = writeln!(io::stderr(), "{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Reads `source` to its end, or says that it holds more than `limit_bytes`.
///
/// # Errors
/// The reason in words: the source cannot be read, or is too long.
pub fn read_item(source: &mut impl Read, limit_bytes: usize) -> Result<Vec<u8>, String> {
    let mut item = Vec::new();
    let allowed = u64::try_from(limit_bytes).map_or(u64::MAX, |limit| limit.saturating_add(1));
    source.take(allowed).read_to_end(&mut item).map_err(|error| format!("cannot read the item from stdin: {error}"))?;
    if item.len() > limit_bytes {
        return Err(format!("the item is longer than {limit_bytes} bytes, the most that this program takes"));
    }
    Ok(item)
}

fn write_result(target: &mut impl Write, result: &[u8]) -> Result<(), String> {
    target.write_all(result).and_then(|()| target.flush()).map_err(|error| format!("cannot write the result: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_of_exactly_the_limit_is_read_and_one_byte_more_is_refused() {
        assert_eq!(read_item(&mut &b"12345"[..], 5), Ok(b"12345".to_vec()));
        assert_eq!(
            read_item(&mut &b"123456"[..], 5),
            Err("the item is longer than 5 bytes, the most that this program takes".to_owned())
        );
    }
}
