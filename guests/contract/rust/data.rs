//! Uses the files of the manifest: its item names one. Prints its length, a checksum, what lies in its middle, what the
//! directory lists, and what happens to everything that must be refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::json;

fn main() -> io::Result<()> {
    let mut name = String::new();
    io::stdin().lock().read_to_string(&mut name)?;
    let path = Path::new("/data").join(name.trim());

    let bytes = fs::read(&path)?;
    let mut file = File::open(&path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size / 2))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let seek_end = file.seek(SeekFrom::End(0))?;

    let refused = [
        ("write", OpenOptions::new().write(true).open(&path).map(drop)),
        ("create", File::create("/data/new").map(drop)),
        ("remove", fs::remove_file(&path)),
        ("rename", fs::rename(&path, "/data/other")),
        ("mkdir", fs::create_dir("/data/new")),
        ("climb", File::open("/data/../etc/passwd").map(drop)),
        ("elsewhere", File::open("/etc/passwd").map(drop)),
        ("missing", File::open("/data/no-such-file").map(drop)),
    ];
    // The words differ between libraries; that it was refused at all is what matters.
    let refused: serde_json::Map<String, serde_json::Value> =
        refused.into_iter().map(|(what, outcome)| (what.to_owned(), json!(outcome.is_err()))).collect();
    let listed = fs::read_dir("/data").map(|entries| {
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    });
    print!(
        "{}",
        json!({
            "bytes": bytes.len(),
            "fnv1a": format!("{:016x}", fnv1a(&bytes)),
            "size": size,
            "middle_matches": tail == bytes[bytes.len() / 2..],
            "seek_end": seek_end,
            "listed": listed.ok(),
            "refused": refused,
        })
    );
    Ok(())
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
