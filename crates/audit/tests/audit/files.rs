//! What a stranger does to published files, or whoever can write them and has no key.

use crate::sample::{cosign, key, pool_file};
use crate::tampering::Way::{self, Files};
use caii_audit::{Check, Kind, MemoryFiles, Opening, Openings, PoolFile, openings_path};
use caii_model::Digest;

fn flip(files: &mut MemoryFiles, path: &str, at: usize) {
    files.0.get_mut(path).expect("it is published")[at] ^= 1;
}

/// Changes a file of openings, as whoever can write it.
fn openings(files: &mut MemoryFiles, change: impl FnOnce(&mut Openings)) {
    let path = openings_path(0, 256);
    let bytes = files.0.get_mut(&path).expect("it is published");
    let mut openings = Openings::from_bytes(bytes, 256).expect("it is one");
    change(&mut openings);
    *bytes = openings.to_bytes();
}

/// The entry of the second batch of work: a receipt of the first job.
const RECEIPT: usize = 7;

/// By strangers.
pub(crate) const FILES: &[(&str, Check, Way)] = &[
    (
        "a tile's bit is flipped",
        Check::Tiles,
        Files(|files| {
            flip(files, "tile/0/000", 32 * 200);
            Some(200)
        }),
    ),
    (
        "an entry's bit is flipped",
        Check::Tiles,
        Files(|files| {
            flip(files, "tile/entries/001", 34 * 9 + 20);
            Some(256 + 9)
        }),
    ),
    (
        "a tile above is changed",
        Check::Tiles,
        Files(|files| {
            flip(files, "tile/1/000.p/2", 0);
            None
        }),
    ),
    (
        "a tile is missing",
        Check::Tiles,
        Files(|files| {
            files.0.remove("tile/0/001").expect("it is published");
            None
        }),
    ),
    (
        "a bundle of entries is missing",
        Check::Tiles,
        Files(|files| {
            files.0.remove("tile/entries/000").expect("it is published");
            None
        }),
    ),
    (
        "the checkpoint's root is changed",
        Check::Checkpoint,
        Files(|files| {
            let text = String::from_utf8(files.0["checkpoint"].clone()).expect("it is text");
            let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
            lines[2] = format!("A{}", &lines[2][1..]);
            files.0.insert("checkpoint".into(), lines.join("\n").into_bytes());
            None
        }),
    ),
    (
        "a cosignature is missing",
        Check::Checkpoint,
        Files(|files| {
            let text = String::from_utf8(files.0["checkpoint"].clone()).expect("it is text");
            let lines: Vec<&str> = text.split('\n').filter(|line| !line.starts_with("— w202.example")).collect();
            files.0.insert("checkpoint".into(), lines.join("\n").into_bytes());
            None
        }),
    ),
    (
        "a cosignature is by a stranger",
        Check::Checkpoint,
        Files(|files| {
            let text = String::from_utf8(files.0["checkpoint"].clone()).expect("it is text");
            let lines: Vec<&str> = text.split('\n').filter(|line| !line.starts_with("— w202.example")).collect();
            files.0.insert("checkpoint".into(), lines.join("\n").into_bytes());
            cosign(files, &[203]);
            None
        }),
    ),
    (
        "pool.json names another pool's key",
        Check::Pool,
        Files(|files| {
            let other = PoolFile { key: key(99).public(), ..pool_file() };
            files.0.insert("pool.json".into(), other.to_json());
            Some(0)
        }),
    ),
    (
        "pool.json names another charter",
        Check::Pool,
        Files(|files| {
            let other = PoolFile { charter: Some(Digest([1; 32])), ..pool_file() };
            files.0.insert("pool.json".into(), other.to_json());
            Some(0)
        }),
    ),
    (
        "a tariff's coefficient is changed in its file",
        Check::Tariffs,
        Files(|files| {
            let path = files.0.keys().find(|path| path.starts_with("tariff/")).expect("it is published").clone();
            let text = String::from_utf8(files.0[&path].clone()).expect("it is text");
            let other = text.replacen("200000", "200001", 1);
            assert_ne!(text, other);
            files.0.insert(path, other.into_bytes());
            None
        }),
    ),
    (
        "a tariff's file is missing",
        Check::Tariffs,
        Files(|files| {
            let path = files.0.keys().find(|path| path.starts_with("tariff/")).expect("it is published").clone();
            files.0.remove(&path);
            None
        }),
    ),
    (
        "two openings are swapped",
        Check::Openings,
        Files(|files| {
            openings(files, |file| file.openings.swap(RECEIPT + 10, RECEIPT + 20));
            Some(RECEIPT as u64 + 10)
        }),
    ),
    (
        "a receipt's bit is flipped in its opening",
        Check::Openings,
        Files(|files| {
            openings(files, |file| {
                let Opening::Open { bytes, .. } = &mut file.openings[30] else { panic!("it is open") };
                bytes[100] ^= 4;
            });
            Some(30)
        }),
    ),
    (
        "a salt is changed",
        Check::Openings,
        Files(|files| {
            openings(files, |file| {
                let Opening::Open { salt, .. } = &mut file.openings[31] else { panic!("it is open") };
                salt[0] ^= 1;
            });
            Some(31)
        }),
    ),
    (
        "an erased opening is filled with something else",
        Check::Openings,
        Files(|files| {
            openings(files, |file| {
                let other = file.openings[33].clone();
                file.openings[32] = Opening::Erased { kind: Kind::Receipt };
                file.openings[32] = other;
            });
            Some(32)
        }),
    ),
    (
        "a file of openings is missing",
        Check::Openings,
        Files(|files| {
            files.0.remove("opening/001").expect("it is published");
            Some(256)
        }),
    ),
    (
        "a file of openings is cut short",
        Check::Openings,
        Files(|files| {
            files.0.get_mut("opening/001").expect("it is published").truncate(5_000);
            Some(256)
        }),
    ),
    (
        "the pool's signature over a bundle is changed",
        Check::PoolSignatures,
        Files(|files| {
            openings(files, |file| file.signature[3] ^= 1);
            Some(0)
        }),
    ),
    (
        "an envelope beside its entry is changed",
        Check::Certificates,
        Files(|files| {
            openings(files, |file| {
                let Opening::Open { attachment, .. } = &mut file.openings[2] else { panic!("it is open") };
                attachment[40] ^= 1;
            });
            Some(2)
        }),
    ),
    (
        "a payment in the bank's file is changed",
        Check::Payouts,
        Files(|files| {
            let text = String::from_utf8(files.0["payout/1.csv"].clone()).expect("it is text");
            files.0.insert("payout/1.csv".into(), text.replacen("EUR,", "EUR,9", 1).into_bytes());
            None
        }),
    ),
    (
        "a payment is left out of the ISO 20022 file",
        Check::Payouts,
        Files(|files| {
            let path = "payout/1.xml";
            let text = String::from_utf8(files.0[path].clone()).expect("it is text");
            let (from, to) =
                (text.find("<CdtTrfTxInf>").expect("there is one"), text.find("</CdtTrfTxInf>").expect("it ends"));
            files.0.insert(path.into(), [&text[..from], &text[to + 14..]].concat().into_bytes());
            None
        }),
    ),
];
