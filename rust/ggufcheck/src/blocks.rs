//! The tensors of a model: there are some, of types that can be computed with, for each block and no other.

use crate::{
    archs,
    model::Model,
    refusal::{Result, demand, refuse, shown},
};

/// The embedding, one row a token.
const EMBEDDING: &str = "token_embd.weight";

/// Refused if the table of tensors contradicts the hyperparameters and the `tokens` of the vocabulary.
pub(crate) fn check(model: &Model<'_>, tokens: Option<u64>) -> Result<()> {
    demand(!model.tensors.is_empty(), "no-tensors", || "a vocabulary without a model".into())?;
    for tensor in model.tensors.values() {
        tensor.check_type()?;
    }
    check_blocks(model)?;
    check_embedding(model, tokens)?;
    check_output(model)
}

fn check_blocks(model: &Model<'_>) -> Result<()> {
    let layers = model.u32("block_count")?.unwrap_or(0) as usize; // at most MAX_LAYERS: checked with the others
    let mut seen = vec![false; layers];
    for name in model.tensors.keys() {
        let Some(number) = block_of(name) else { continue };
        match number.parse::<usize>().ok().and_then(|number| seen.get_mut(number)) {
            Some(block) => *block = true,
            None => return refuse("blocks", format!("{} is of none of {layers} blocks", shown(name))),
        }
    }
    let empty = seen.iter().position(|seen| !seen).filter(|_| !archs::may_have_empty_blocks(model.arch));
    demand(empty.is_none(), "blocks", || format!("block {} of {layers} has no tensors", empty.unwrap_or(0)))
}

/// The number in `blk.12.attn_q.weight` and in `enc.blk.12.…`.
fn block_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix("enc.").or_else(|| name.strip_prefix("dec.")).unwrap_or(name);
    name.strip_prefix("blk.")?.split('.').next()
}

fn check_embedding(model: &Model<'_>, tokens: Option<u64>) -> Result<()> {
    let Some(table) = model.tensors.get(EMBEDDING) else { return Ok(()) };
    let (width, rows) = (table.shape[0], table.shape.get(1).copied().unwrap_or(1));
    let embedding = model.u32("embedding_length")?;
    demand(embedding == Some(width) || archs::has_other_input(model.arch), "shape", || {
        format!("{EMBEDDING} has rows of {width}, not of {}", embedding.unwrap_or(0))
    })?;
    demand(tokens.is_none_or(|tokens| tokens == rows), "vocabulary", || {
        format!("{EMBEDDING} has {rows} rows for {} tokens", tokens.unwrap_or(0))
    })
}

/// A vector is read out with the length that the header says: a longer one than is computed lies outside.
fn check_output(model: &Model<'_>) -> Result<()> {
    let (Some(said), Some(width)) = (model.u32("embedding_length_out")?, model.u32("embedding_length")?) else {
        return Ok(());
    };
    let heads = model.tensors.values().filter(|tensor| tensor.name.starts_with("dense_"));
    let longest = heads.filter_map(|tensor| tensor.shape.get(1)).copied().fold(width, u64::max);
    demand(said <= longest || archs::has_other_input(model.arch), "hparam", || {
        format!("vectors of {said} elements from a model of {longest}")
    })
}
