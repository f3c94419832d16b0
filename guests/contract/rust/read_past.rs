//! Reads its item, then reads on past the end, which must give end of file each time: prints the lengths of all reads
//! after the first end, such as `[0,0,0]`.

use std::io::{self, Read};

fn main() -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    stdin.read_to_end(&mut Vec::new())?;
    let mut after = Vec::new();
    for _ in 0..3 {
        after.push(stdin.read(&mut [0; 100])?);
    }
    print!("{}", serde_json::json!(after));
    Ok(())
}
