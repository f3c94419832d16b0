//! Batch requests from lines of text, and the nearest neighbours among the embeddings that come back.

use std::io::{self, Write};

/// Writes an OpenAI batch file that asks for the embedding of each line, one request a line of JSON, with `custom_id`s
/// `line-1`, `line-2`, …; returns how many were written.
///
/// # Errors
/// When `out` cannot be written.
pub fn embeddings_requests(lines: impl Iterator<Item = String>, model: &str, out: &mut impl Write) -> io::Result<u64> {
    let mut count = 0;
    for line in lines {
        count += 1;
        let request = serde_json::json!({
            "custom_id": format!("line-{count}"),
            "method": "POST",
            "url": "/v1/embeddings",
            "body": { "model": model, "input": line },
        });
        writeln!(out, "{request}")?;
    }
    Ok(count)
}

/// The `k` vectors most like `embeddings[query]` by cosine, best first, with their similarity (-1 to 1); the query
/// itself is left out, equal similarities come in order of their place. A vector of zeros or of another length is like
/// nothing and left out, too.
pub fn nearest(embeddings: &[Vec<f32>], query: usize, k: usize) -> Vec<(usize, f32)> {
    let Some(wanted) = embeddings.get(query) else { return Vec::new() };
    let mut scored: Vec<(usize, f32)> = embeddings
        .iter()
        .enumerate()
        .filter(|&(index, _)| index != query)
        .filter_map(|(index, other)| Some((index, cosine(wanted, other)?)))
        .collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    scored.truncate(k);
    scored
}

/// The cosine of two vectors; `None` if their lengths differ, or one has no direction.
fn cosine(a: &[f32], b: &[f32]) -> Option<f32> {
    if a.len() != b.len() {
        return None;
    }
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    cosine.is_finite().then_some(cosine.clamp(-1.0, 1.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_line_is_one_request() {
        let mut out = Vec::new();
        let lines = ["A cat.", "\"Quoted\"\tand é"].map(String::from);
        assert_eq!(embeddings_requests(lines.into_iter(), "minilm", &mut out).unwrap(), 2);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"custom_id":"line-1","method":"POST","url":"/v1/embeddings","body":{"model":"minilm","input":"A cat."}}"#,
                "\n",
                r#"{"custom_id":"line-2","method":"POST","url":"/v1/embeddings","body":{"model":"minilm","input":"\"Quoted\"\tand é"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn the_nearest_come_first_and_the_query_never() {
        let vectors = [vec![1.0, 0.0], vec![-1.0, 0.0], vec![3.0, 4.0], vec![0.0, 0.0], vec![2.0, 0.0], vec![1.0]];
        assert_eq!(nearest(&vectors, 0, 9), [(4, 1.0), (2, 0.6), (1, -1.0)]);
        assert_eq!(nearest(&vectors, 0, 1), [(4, 1.0)]);
        assert_eq!(nearest(&vectors, 9, 1), []);
    }

    proptest! {
        #[test]
        fn similarities_fall(vectors in proptest::collection::vec(proptest::collection::vec(-9f32..9.0, 3), 1..20)) {
            let found = nearest(&vectors, 0, vectors.len());
            prop_assert!(found.len() < vectors.len());
            prop_assert!(found.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        }
    }
}
