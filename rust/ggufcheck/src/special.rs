//! Special tokens: those that a tokenizer adds to each text must be there, or it aborts at the first one.

use crate::{
    model::Model,
    refusal::{Result, demand, refuse, shown},
    value::Value,
    vocabulary::Algorithm,
};

/// Ids that are wrong in files that work: llama.cpp ignores them if they are out of range. All others must be right.
const CARELESS: [&str; 3] = ["padding", "seperator", "mask"];

/// Refused if an id lies outside the vocabulary, or one that is added to texts is not there.
pub(crate) fn check(model: &Model<'_>, algorithm: Algorithm, tokens: u64) -> Result<()> {
    for key in model.header.values.keys() {
        let Some(name) = key.strip_prefix("tokenizer.ggml.").and_then(|key| key.strip_suffix("_token_id")) else {
            continue;
        };
        let id = model.header.u32(key)?;
        let fits = CARELESS.contains(&name) || id.is_some_and(|id| id < tokens);
        demand(fits, "vocabulary", || format!("{} is {} of {tokens}", shown(key), id.unwrap_or(0)))?;
    }
    check_added(model, algorithm, tokens)
}

/// The ids that a tokenizer of this kind has without being told: (beginning, end, separator).
fn usual(algorithm: Algorithm) -> (Option<u64>, Option<u64>, Option<u64>) {
    match algorithm {
        Algorithm::Spm | Algorithm::Plamo2 => (Some(1), Some(2), None),
        Algorithm::Wpm => (Some(101), None, Some(102)),
        Algorithm::Bpe => (Some(11), Some(11), None),
        Algorithm::Ugm => (None, Some(1), None),
        Algorithm::Other => (None, None, None),
    }
}

fn check_added(model: &Model<'_>, algorithm: Algorithm, tokens: u64) -> Result<()> {
    let (bos, eos, separator) = usual(algorithm);
    let gemma4 = ["gemma4", "granite-embed-multi-311m"];
    let named = |key: &str| gemma4.contains(&model.header.text(key).unwrap_or(""));
    let forced = named("tokenizer.ggml.model") || named("tokenizer.ggml.pre"); // llama.cpp adds a BOS there
    let (bos, eos) = match (algorithm, model.header.text("tokenizer.ggml.model")) {
        (_, Some("gemma4")) => (None, None),
        _ => (bos, eos),
    };
    let is_there = |name: &str, usual: Option<u64>| -> Result<bool> {
        let said = model.header.u32(&format!("tokenizer.ggml.{name}_token_id"))?;
        Ok(said.or(usual).is_some_and(|id| id < tokens) || usual.is_some_and(|id| id < tokens))
    };
    let begins = forced || algorithm == Algorithm::Wpm || flag(model, "add_bos_token", adds_bos(model, algorithm))?;
    let ends = flag(model, "add_eos_token", algorithm == Algorithm::Ugm)?;
    demand(!begins || algorithm == Algorithm::Other || is_there("bos", bos)?, "vocabulary", || {
        "every text begins with a token that is not there".into()
    })?;
    demand(!ends || algorithm == Algorithm::Other || is_there("eos", eos)?, "vocabulary", || {
        "every text ends with a token that is not there".into()
    })?;
    demand(algorithm != Algorithm::Wpm || is_there("seperator", separator)?, "vocabulary", || {
        "every text ends with a separator that is not there".into() // sic: the key is spelled so
    })
}

/// Whether texts begin with a token where the file does not say.
fn adds_bos(model: &Model<'_>, algorithm: Algorithm) -> bool {
    const PRE: [&str; 11] = [
        "llama3",
        "llama-v3",
        "llama-bpe",
        "falcon3",
        "falcon-h1",
        "pixtral",
        "midm-2.0",
        "lfm2",
        "jina-v5-nano",
        "tekken",
        "chameleon",
    ];
    match algorithm {
        Algorithm::Spm => true,
        Algorithm::Bpe => PRE.contains(&model.header.text("tokenizer.ggml.pre").unwrap_or("")),
        _ => false,
    }
}

fn flag(model: &Model<'_>, name: &str, usual: bool) -> Result<bool> {
    match model.header.get(&format!("tokenizer.ggml.{name}")).map(Value::as_bool) {
        None => Ok(usual),
        Some(Some(said)) => Ok(said),
        Some(None) => refuse("type", format!("{name} is neither true nor false")),
    }
}
