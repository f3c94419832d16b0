//! Exits with the code that its item gives in decimal, after writing to stdout and to stderr.

use std::io::{self, Read};
use std::process;

fn main() -> io::Result<()> {
    let mut item = String::new();
    io::stdin().lock().read_to_string(&mut item)?;
    let code = item.trim().parse().map_err(io::Error::other)?;
    print!("written before exit");
    eprint!("exiting with {code}");
    process::exit(code)
}
