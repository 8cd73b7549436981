//! LoRA adapters: pairs of thin matrices for some of a model's tensors. llama.cpp compares their outer sizes with the model.

use std::collections::HashMap;

use crate::{
    header::Header,
    refusal::{Result, demand, shown},
    tensor::Tensor,
};

/// The two halves of a pair.
const HALVES: [&str; 2] = [".lora_a", ".lora_b"];

/// Refused if llama.cpp would abort over this adapter instead of saying what is wrong.
pub(crate) fn check(header: &Header) -> Result<()> {
    for (key, wanted) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        demand(header.text(key) == Some(wanted), "adapter", || format!("{} is not {wanted}", shown(key)))?;
    }
    let arch = header.text("general.architecture");
    demand(arch.is_some(), "architecture", || "the header names no architecture".into())?;
    let alpha = header.get("adapter.lora.alpha");
    let good = alpha.is_none_or(|value| value.as_f32().is_some_and(f64::is_finite));
    demand(good, "hparam", || "adapter.lora.alpha is no number of 32 bits".into())?;
    check_pairs(header)
}

fn check_pairs(header: &Header) -> Result<()> {
    let mut pairs: HashMap<&str, [Option<&Tensor>; 2]> = HashMap::new();
    for tensor in header.tensors.iter().filter(|tensor| !tensor.name.ends_with("_norm.weight")) {
        tensor.check_type()?;
        let half = HALVES.iter().position(|half| tensor.name.ends_with(half));
        let Some(half) = half.filter(|_| tensor.shape.len() > 1) else {
            return demand(false, "adapter", || format!("{} is no half of a pair", shown(&tensor.name)));
        };
        let name = &tensor.name[..tensor.name.len() - HALVES[half].len()];
        pairs.entry(name).or_default()[half] = Some(tensor);
    }
    demand(!pairs.is_empty(), "no-tensors", || "an adapter of nothing".into())?;
    pairs.into_iter().try_for_each(|(name, pair)| check_pair(name, pair))
}

/// The rank is the inner size of both; the embedding, whose rows are looked up, has its first half the other way round.
fn check_pair(name: &str, pair: [Option<&Tensor>; 2]) -> Result<()> {
    let [Some(first), Some(second)] = pair else {
        return demand(false, "adapter", || format!("{} has one half only", shown(name)));
    };
    let inner = usize::from(!name.ends_with("token_embd.weight"));
    demand(first.shape[inner] == second.shape[0], "shape", || format!("the halves of {} do not fit", shown(name)))
}
