use super::*;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const LARGE: usize = SMALL_MAX.0 as usize + 1;
const NO_LIMIT: Bytes = Bytes(u64::MAX);

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(directory: &TempDir) -> LocalBlobs {
    LocalBlobs::open(directory.path()).unwrap()
}

fn content(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|place| (place as u8).wrapping_mul(31) ^ (place >> 8) as u8 ^ seed).collect()
}

/// Sizes around every border: nothing, small, the largest small one, the smallest large one, large.
fn samples() -> Vec<Vec<u8>> {
    [0, 1, 1_000, LARGE - 1, LARGE, 3 * LARGE + 7].iter().map(|len| content(1, *len)).collect()
}

fn temporary(directory: &TempDir) -> usize {
    fs::read_dir(directory.path().join("tmp")).unwrap().count()
}

#[test]
fn what_is_put_comes_back_also_after_reopening() {
    let directory = directory();
    let samples = samples();
    let borrowed: Vec<&[u8]> = samples.iter().map(Vec::as_slice).collect();
    let digests = open(&directory).put_all(&borrowed).unwrap();
    let blobs = open(&directory);
    for (digest, bytes) in digests.iter().zip(&samples) {
        assert_eq!(*digest, Digest::of(bytes));
        assert_eq!(blobs.size(digest).unwrap(), Some(Bytes(bytes.len() as u64)));
        assert_eq!(blobs.read(digest, Bytes(bytes.len() as u64)).unwrap(), *bytes);
        blobs.verify(digest).unwrap();
        let len = bytes.len() as u64;
        for range in [0..0, 0..len, len / 3..len / 2, len..len] {
            let expected = &bytes[range.start as usize..range.end as usize];
            assert_eq!(blobs.read_range(digest, range).unwrap(), expected);
        }
        for range in [0..len + 1, len + 1..len + 1] {
            assert!(matches!(blobs.open(digest, Some(range)), Err(BlobError::OutOfRange { .. })));
        }
        if len > 0 {
            let error = blobs.read(digest, Bytes(len - 1));
            assert!(matches!(error, Err(BlobError::TooLarge { .. })), "{error:?}");
        }
        let path = blobs.local_path(digest);
        assert_eq!(path.is_some(), bytes.len() >= LARGE);
        assert!(path.is_none_or(|path| fs::read(path).unwrap() == *bytes));
    }
}

#[test]
fn a_writer_takes_pieces_and_checks_what_came() {
    let directory = directory();
    let blobs = open(&directory);
    for bytes in samples() {
        let digest = Digest::of(&bytes);
        let write = |limit| {
            let mut writer = blobs.writer(limit)?;
            bytes.chunks(777).try_for_each(|piece| writer.write(piece))?;
            Ok::<_, BlobError>(writer)
        };
        let wrong = Digest::of(b"something else");
        let error = write(NO_LIMIT).unwrap().commit(Some(wrong));
        assert!(matches!(error, Err(BlobError::Mismatch { expected, found }) if (expected, found) == (wrong, digest)));
        drop(write(NO_LIMIT).unwrap());
        assert_eq!(blobs.size(&digest).unwrap(), None, "neither a refused nor a dropped blob is kept");
        let len = Bytes(bytes.len() as u64);
        if len.0 > 0 {
            assert!(matches!(write(Bytes(len.0 - 1)), Err(BlobError::TooLarge { .. })));
        }
        assert_eq!(write(len).unwrap().commit(Some(digest)).unwrap(), (digest, len));
        assert_eq!(blobs.read(&digest, len).unwrap(), bytes);
        assert_eq!(temporary(&directory), 0);
    }
}

#[test]
fn what_is_not_there_is_said_so() {
    let directory = directory();
    let blobs = open(&directory);
    let digest = Digest::of(b"nothing");
    assert!(matches!(blobs.open(&digest, None), Err(BlobError::NotFound { .. })));
    assert!(matches!(blobs.read(&digest, NO_LIMIT), Err(BlobError::NotFound { .. })));
    assert_eq!(blobs.size(&digest).unwrap(), None);
    assert!(!blobs.touch(&digest).unwrap());
    blobs.delete(&digest).unwrap();
}

#[test]
fn deleted_blobs_are_gone_and_can_come_back() {
    let directory = directory();
    let blobs = open(&directory);
    for bytes in samples() {
        let digest = blobs.put_bytes(&bytes).unwrap();
        blobs.delete(&digest).unwrap();
        assert_eq!(blobs.size(&digest).unwrap(), None);
        assert_eq!(blobs.put_bytes(&bytes).unwrap(), digest);
        assert_eq!(blobs.read(&digest, NO_LIMIT).unwrap(), bytes);
    }
}

#[test]
fn a_sweep_removes_the_old_and_dead_alone() {
    let directory = directory();
    let blobs = open(&directory);
    let samples: Vec<Vec<u8>> = (0..4).flat_map(|seed| [content(seed, 100), content(seed, LARGE)]).collect();
    let digests: Vec<Digest> = samples.iter().map(|bytes| blobs.put_bytes(bytes).unwrap()).collect();
    let live: BTreeSet<Digest> = digests[..4].iter().copied().collect();
    let is_live = |digest: &Digest| live.contains(digest);
    let hour = Duration::from_secs(3_600);
    let kept = |which: &[Digest]| which.iter().all(|digest| blobs.size(digest).unwrap().is_some());
    assert_eq!(blobs.sweep(&is_live, hour).unwrap(), Swept::default(), "all are young");
    assert!(kept(&digests));
    age(&directory);
    assert!(blobs.touch(&digests[4]).unwrap() && blobs.touch(&digests[5]).unwrap());
    // An upload of what is there already counts as one.
    let swept = blobs.sweep(&is_live, hour).unwrap();
    assert_eq!(swept, Swept { blobs: 2, bytes: Bytes(100 + LARGE as u64) });
    assert!(kept(&digests[..6]), "live and touched ones stay");
    assert!(!kept(&digests[6..7]) && !kept(&digests[7..8]));
    age(&directory);
    for bytes in &samples[4..6] {
        blobs.put_bytes(bytes).unwrap();
    }
    assert_eq!(blobs.sweep(&is_live, hour).unwrap(), Swept::default(), "what was put again is young again");
    assert_eq!(blobs.sweep(&is_live, Duration::ZERO).unwrap().blobs, 2);
    assert!(kept(&digests[..4]));
}

/// Makes every blob two hours old.
fn age(directory: &TempDir) {
    let then = SystemTime::now() - Duration::from_secs(7_200);
    for shard in shards() {
        for entry in fs::read_dir(directory.path().join(shard)).unwrap() {
            File::options().append(true).open(entry.unwrap().path()).unwrap().set_modified(then).unwrap();
        }
    }
    let db = rusqlite::Connection::open(directory.path().join("small.db")).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    db.execute("UPDATE blobs SET put_ms = put_ms - 7200000", []).unwrap();
}

/// Sweeps without grace race puts of the very blobs that they remove: a put that returned after the last sweep holds,
/// and no put ever fails.
#[test]
fn sweeps_and_puts_of_the_same_blobs_do_not_hurt_each_other() {
    let directory = directory();
    let blobs = open(&directory);
    let samples = [content(1, 100), content(2, LARGE)];
    std::thread::scope(|scope| {
        for bytes in samples.iter().flat_map(|bytes| [bytes, bytes]) {
            let blobs = blobs.clone();
            scope.spawn(move || (0..30).for_each(|_| _ = blobs.put_bytes(bytes).unwrap()));
        }
        for _ in 0..60 {
            blobs.sweep(&|_| false, Duration::ZERO).unwrap();
        }
    });
    for bytes in &samples {
        let digest = blobs.put_bytes(bytes).unwrap();
        assert_eq!(blobs.read(&digest, NO_LIMIT).unwrap(), *bytes);
    }
}

#[test]
fn many_threads_put_the_same_and_other_blobs() {
    let directory = directory();
    let blobs = open(&directory);
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let blobs = blobs.clone();
            scope.spawn(move || {
                for round in 0..20 {
                    for bytes in [content(round, 500), content(thread, 600), content(round % 3, LARGE)] {
                        let digest = blobs.put_bytes(&bytes).unwrap();
                        assert_eq!(blobs.read(&digest, NO_LIMIT).unwrap(), bytes);
                    }
                }
            });
        }
    });
    assert_eq!(temporary(&directory), 0);
}

#[test]
fn damaged_content_is_found_and_healed_by_putting_it_again() {
    let directory = directory();
    let blobs = open(&directory);
    for bytes in [content(1, 100), content(1, LARGE)] {
        let digest = blobs.put_bytes(&bytes).unwrap();
        match blobs.local_path(&digest) {
            Some(path) => fs::write(path, content(2, bytes.len())).unwrap(),
            None => {
                let db = rusqlite::Connection::open(directory.path().join("small.db")).unwrap();
                db.execute("UPDATE blobs SET content = zeroblob(100)", []).unwrap();
            }
        }
        let found = [blobs.verify(&digest).unwrap_err(), blobs.read(&digest, NO_LIMIT).unwrap_err()];
        assert!(found.iter().all(|error| matches!(error, BlobError::Corrupt { .. })), "{found:?}");
        blobs.put_bytes(&bytes).unwrap();
        blobs.verify(&digest).unwrap();
    }
}

#[test]
fn unfinished_uploads_are_removed_at_opening() {
    let directory = directory();
    let blobs = open(&directory);
    let mut writer = blobs.writer(NO_LIMIT).unwrap();
    writer.write(&content(1, LARGE)).unwrap();
    assert_eq!(temporary(&directory), 1);
    // As a kill does: nothing is cleaned up.
    std::mem::forget(writer);
    drop(blobs);
    open(&directory);
    assert_eq!(temporary(&directory), 0);
}

const CHILD_DIRECTORY: &str = "CAII_BLOBS_TEST_DIRECTORY";

/// Not a test of its own: what the next one runs in a process whose files may not grow.
#[test]
fn child_puts_without_room() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let blobs = LocalBlobs::open(Path::new(&directory)).unwrap();
    let large = content(9, 1 << 20);
    println!("\nlarge {:?}", blobs.put_bytes(&large));
    println!("\nabsent {:?}", blobs.size(&Digest::of(&large)));
    let fits = content(9, LARGE);
    println!("\nfits {}", blobs.put_bytes(&fits).is_ok());
    let small = (0..=255).map(|seed| content(seed, 5_000)).map(|bytes| blobs.put_bytes(&bytes));
    println!("\nsmall {:?}", small.filter_map(Result::err).next());
}

#[test]
fn no_room_is_an_error_of_its_own_and_leaves_nothing_half() {
    let directory = directory();
    let kept = {
        let blobs = open(&directory);
        [content(1, 100), content(1, LARGE)].map(|bytes| blobs.put_bytes(&bytes).unwrap())
    };
    let test = std::env::current_exe().unwrap();
    // 700 blocks of 512 bytes: more than the large blob that fits, less than the other and than all small ones.
    let limit = "trap '' XFSZ; ulimit -f 700; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", limit])
        .arg(test)
        .args(["--exact", "local_blobs::tests::child_puts_without_room", "--nocapture"])
        .env(CHILD_DIRECTORY, directory.path())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nlarge Err(DiskFull"), "{text}");
    assert!(text.contains("\nabsent Ok(None)"), "{text}");
    assert!(text.contains("\nfits true"), "{text}");
    assert!(text.contains("\nsmall Some("), "{text}");
    let blobs = open(&directory);
    kept.iter().for_each(|digest| blobs.verify(digest).unwrap());
    assert_eq!(temporary(&directory), 0);
    assert_eq!(blobs.size(&Digest::of(&content(9, 1 << 20))).unwrap(), None);
}
