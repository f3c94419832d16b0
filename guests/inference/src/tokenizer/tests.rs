use super::*;

/// A small tokenizer of BERT's kind, with `change` made to it.
pub(crate) fn tokenizer_json(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let words =
        ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "cafe", "!", "中", "国", "a", "##a", "straße"];
    let vocab: serde_json::Map<_, _> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let added = |id: u32, content: &str| {
        serde_json::json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true })
    };
    let mut json = serde_json::json!({
        "truncation": { "max_length": 3, "strategy": "LongestFirst", "stride": 0 },
        "added_tokens": [added(1, "[CLS]"), added(2, "[SEP]"), added(3, "[MASK]")],
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }],
            "pair": [],
            "special_tokens": { "[CLS]": { "id": "[CLS]", "ids": [1], "tokens": ["[CLS]"] },
                "[SEP]": { "id": "[SEP]", "ids": [2], "tokens": ["[SEP]"] } } },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 8, "vocab": vocab },
    });
    change(&mut json);
    serde_json::to_vec(&json).unwrap()
}

fn bare(text: &str) -> Vec<u32> {
    Tokenizer::from_json(&tokenizer_json(|_| ())).unwrap().encode_bare(text)
}

#[test]
fn words_are_covered_greedily_from_the_left_or_not_at_all() {
    assert_eq!(bare("unaffable un"), vec![0, 4], "nine characters are over the limit of eight");
    assert_eq!(bare("unaff aaa"), vec![4, 5, 11, 12, 12]);
    assert_eq!(bare("unx xun"), vec![0, 0]);
    assert_eq!(bare(""), Vec::<u32>::new());
}

#[test]
fn accents_case_controls_and_ideographs_are_normalised() {
    assert_eq!(bare("CAFÉ cafe\u{301}"), vec![7, 7]);
    assert_eq!(bare("un\u{7}aff\u{200b}\u{fffd} \t\n!"), vec![4, 5, 8]);
    assert_eq!(bare("a中国a!!"), vec![11, 9, 10, 11, 8, 8]);
    assert_eq!(bare("STRASSE Straße"), vec![0, 13]);
}

#[test]
fn added_tokens_are_found_in_raw_text() {
    assert_eq!(bare("a[MASK]a [mask]"), vec![11, 3, 11, 0, 0, 0]);
    let json = tokenizer_json(|json| json["added_tokens"][2]["lstrip"] = true.into());
    assert_eq!(Tokenizer::from_json(&json).unwrap().encode_bare("a  [MASK] a"), vec![11, 3, 11]);
}

#[test]
fn special_tokens_surround_the_text_and_nothing_is_truncated() {
    let tokenizer = Tokenizer::from_json(&tokenizer_json(|_| ())).unwrap();
    assert_eq!(tokenizer.with_specials(&tokenizer.encode_bare("a a a a")), vec![1, 11, 11, 11, 11, 2]);
    assert_eq!(tokenizer.id_end(), 14);
}

#[test]
fn tokenizers_of_other_kinds_are_refused_by_what_they_are() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &str); 7] = [
        (|json| json["model"]["type"] = "BPE".into(), "another model than WordPiece"),
        (|json| json["normalizer"]["type"] = "NFKC".into(), "another normalizer than BertNormalizer"),
        (|json| json["normalizer"] = serde_json::Value::Null, "another normalizer"),
        (|json| json["pre_tokenizer"]["type"] = "Whitespace".into(), "another pre-tokenizer"),
        (|json| json["post_processor"]["type"] = "ByteLevel".into(), "another post-processor"),
        (|json| json["added_tokens"][0]["normalized"] = true.into(), "the added token \"[CLS]\""),
        (|json| json["model"]["unk_token"] = "[NONE]".into(), "names the token \"[NONE]\""),
    ];
    for (change, words) in cases {
        let refusal = Tokenizer::from_json(&tokenizer_json(change)).unwrap_err().to_string();
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
}
