//! The response body of OpenAI's embeddings endpoint.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::Encoding;

/// Writes the body for `embeddings`, in order.
///
/// Floats are written in the shortest decimal form that reads back to the same bits.
pub(crate) fn write(model: &str, embeddings: &[Vec<f32>], encoding: Encoding, prompt_tokens: usize) -> Vec<u8> {
    // By hand around the numbers, because a JSON value holds doubles, and a float printed as a double is twice as long.
    let mut body = String::from(r#"{"object":"list","data":["#);
    for (index, embedding) in embeddings.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(&format!(r#"{{"object":"embedding","index":{index},"embedding":"#));
        match encoding {
            Encoding::Float => body.push_str(&serde_json::to_string(embedding).expect("a list of floats is JSON")),
            Encoding::Base64 => {
                let bytes: Vec<u8> = embedding.iter().flat_map(|value| value.to_le_bytes()).collect();
                body.push('"');
                STANDARD.encode_string(bytes, &mut body);
                body.push('"');
            }
        }
        body.push('}');
    }
    let usage = json!({ "prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens });
    body.push_str(&format!(r#"],"model":{},"usage":{usage}}}"#, json!(model)));
    body.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(encoding: Encoding) -> String {
        String::from_utf8(write("m\"1", &[vec![0.1, -1.0e-9], vec![0.5, 1.0]], encoding, 7)).unwrap()
    }

    #[test]
    fn floats_are_written_in_their_shortest_form() {
        assert_eq!(
            written(Encoding::Float),
            concat!(
                r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-1e-9]},"#,
                r#"{"object":"embedding","index":1,"embedding":[0.5,1.0]}],"#,
                r#""model":"m\"1","usage":{"prompt_tokens":7,"total_tokens":7}}"#
            )
        );
    }

    #[test]
    fn base64_holds_little_endian_floats() {
        let body: serde_json::Value = serde_json::from_str(&written(Encoding::Base64)).unwrap();
        assert_eq!(body["data"][1]["embedding"], json!("AAAAPwAAgD8="));
    }
}
