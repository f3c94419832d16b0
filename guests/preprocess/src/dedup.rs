//! Finds records that repeat earlier ones of the same item, exactly or nearly.
//!
//! Near duplicates are found by MinHash with banding and then checked by the true Jaccard similarity of their shingles
//! (runs of words), so what is reported is never wrong; a pair close to the threshold can be missed.

use std::collections::{BTreeSet, HashMap};

use caii_guest::{Options, Record};
use serde_json::json;
use unicode_normalization::UnicodeNormalization;

/// Hashes of a signature, cut into bands of [`ROWS`]: a pair of similarity s becomes a candidate with probability
/// 1 - (1 - s^4)^32, which is 0.9999999 at s = 0.8 and 0.87 at s = 0.5.
const BANDS: usize = 32;
const ROWS: usize = 4;

/// Candidates that a record is compared with at most per band, so that a thousand empty-looking records stay cheap.
const MAX_CANDIDATES: usize = 64;

/// What a record repeats.
struct Duplicate {
    of: usize,
    similarity: f64,
}

pub(crate) fn run(records: Vec<Record>, options: &Options) -> Result<Vec<String>, String> {
    let near = options.choice("method", &["near", "exact"])? == "near";
    let threshold = options.number("threshold", 0.8, 0.5..=1.0)?;
    let shingle = options.number("shingle", 3, 1..=20)?;
    let mark = options.choice("duplicates", &["drop", "mark"])? == "mark";

    let texts: Vec<String> = records.iter().map(|record| canonical(record.text())).collect();
    let mut duplicates = exact(&texts);
    if near {
        find_near(&texts, shingle, threshold, &mut duplicates);
    }
    let mut lines = Vec::new();
    for (mut record, duplicate) in records.into_iter().zip(&duplicates) {
        if mark {
            let of = duplicate.as_ref().map(|duplicate| duplicate.of);
            record.fields.insert("duplicate_of".to_owned(), json!(of));
            if let Some(duplicate) = duplicate {
                let rounded = (duplicate.similarity * 1000.0).round() / 1000.0;
                record.fields.insert("similarity".to_owned(), json!(rounded));
            }
        } else if duplicate.is_some() {
            continue;
        }
        lines.push(record.to_line());
    }
    Ok(lines)
}

/// What two texts must share to count as equal.
fn canonical(text: &str) -> String {
    let composed: String = text.nfkc().collect();
    composed.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn exact(texts: &[String]) -> Vec<Option<Duplicate>> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut duplicates = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let of = *first.entry(text.as_str()).or_insert(index);
        duplicates.push((of != index).then_some(Duplicate { of, similarity: 1.0 }));
    }
    duplicates
}

/// Marks each text that is not marked yet and resembles an earlier one that is kept.
fn find_near(texts: &[String], shingle: usize, threshold: f64, duplicates: &mut [Option<Duplicate>]) {
    let mut buckets: HashMap<(usize, [u64; ROWS]), Vec<usize>> = HashMap::new();
    let mut kept: HashMap<usize, BTreeSet<u64>> = HashMap::new();
    for (index, text) in texts.iter().enumerate() {
        if duplicates[index].is_some() {
            continue;
        }
        let shingles = shingles(text, shingle);
        let bands: Vec<(usize, [u64; ROWS])> = signature(&shingles).into_iter().enumerate().collect();
        let candidates: BTreeSet<usize> = bands
            .iter()
            .filter_map(|band| buckets.get(band))
            .flat_map(|bucket| bucket.iter().take(MAX_CANDIDATES).copied())
            .collect();
        // The earliest one that is near enough, so that the outcome does not depend on the order of the buckets.
        let near = candidates.into_iter().find_map(|of| {
            let similarity = jaccard(&shingles, &kept[&of]);
            (similarity >= threshold).then_some(Duplicate { of, similarity })
        });
        if near.is_some() {
            duplicates[index] = near;
            continue;
        }
        for band in bands {
            buckets.entry(band).or_default().push(index);
        }
        kept.insert(index, shingles);
    }
}

/// Hashes of all runs of `length` words; a shorter text is one run.
fn shingles(text: &str, length: usize) -> BTreeSet<u64> {
    let words: Vec<&str> = text.split(' ').collect();
    words.windows(length.min(words.len())).map(|run| hash(run.join(" ").as_bytes())).collect()
}

fn jaccard(a: &BTreeSet<u64>, b: &BTreeSet<u64>) -> f64 {
    let common = a.intersection(b).count();
    common as f64 / (a.len() + b.len() - common) as f64
}

/// The smallest hash of all shingles under each of [`BANDS`] × [`ROWS`] permutations.
fn signature(shingles: &BTreeSet<u64>) -> [[u64; ROWS]; BANDS] {
    let mut signature = [[u64::MAX; ROWS]; BANDS];
    for (permutation, least) in signature.iter_mut().flatten().enumerate() {
        let salt = mix(permutation as u64 + 1);
        *least = shingles.iter().map(|shingle| mix(shingle ^ salt)).min().unwrap_or(u64::MAX);
    }
    signature
}

/// FNV-1a, then mixed, because FNV alone is weak in its high bits.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// The finaliser of SplitMix64: a permutation of all 64-bit numbers.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
