//! Hyperparameters: what llama.cpp asserts of them while it loads, and what its operators take for granted.

use crate::{
    archs,
    limits::{MAX_CONTEXT, MAX_EXPERTS, MAX_LAYERS},
    model::Model,
    refusal::{Result, demand, refuse, shown},
    value::Value,
};

/// Embedding, head and feed-forward sizes; the largest real ones are under 100,000.
const MAX_WIDTH: u64 = 1 << 24;
/// Zero would be divided by.
const DIVISORS: [&str; 9] = [
    "full_attention_interval",
    "attention.temperature_length",
    "wkv.head_size",
    "ssm.conv_kernel",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
    "ssm.group_count",
    "rope.scaling.original_context_length",
];
/// `rope.scaling.type`; any other one makes llama.cpp abort.
const SCALINGS: [&str; 4] = ["none", "linear", "yarn", "longrope"];
/// The norms divide by what they add to.
const MAX_EPSILON: f64 = 1.0;

/// Refused if a hyperparameter would kill llama.cpp, or contradicts the tensors.
pub(crate) fn check(model: &Model<'_>) -> Result<()> {
    let layers = model.required("block_count", 1, MAX_LAYERS)?;
    model.required("context_length", 1, MAX_CONTEXT)?;
    let width = model.required("embedding_length", 1, MAX_WIDTH)?;
    check_floats(model)?;
    check_divisors(model)?;
    check_windows(model)?;
    check_heads(model, layers, width)?;
    check_feed_forward(model, layers)?;
    check_experts(model, layers)?;
    check_rope_scaling(model)
}

/// Every number with a fraction is finite; epsilons and bases besides are what they can be.
fn check_floats(model: &Model<'_>) -> Result<()> {
    let prefix = model.key("");
    for (key, value) in &model.header.values {
        let (Some(suffix), Some(number)) = (key.strip_prefix(&prefix), value.as_float()) else { continue };
        let good = match suffix {
            _ if suffix.ends_with("epsilon") => (0.0..MAX_EPSILON).contains(&number),
            _ if suffix.starts_with("rope.freq_base") => number > 0.0 && number.is_finite(),
            "rope.scaling.factor" | "rope.scale_linear" => number >= 0.0 && number.is_finite(),
            _ => number.is_finite(),
        };
        demand(good, "hparam", || format!("{} is {number}", shown(key)))?;
    }
    Ok(())
}

fn check_divisors(model: &Model<'_>) -> Result<()> {
    for suffix in DIVISORS {
        let zero = model.get(suffix).is_some_and(|value| value.as_u32() == Some(0));
        demand(!zero, "hparam", || format!("{} is 0", shown(&model.key(suffix))))?;
    }
    Ok(())
}

/// Where windows slide, some layer has one: every first of each layer (1) leaves none, and llama.cpp aborts.
fn check_windows(model: &Model<'_>) -> Result<()> {
    const PATTERN: &str = "attention.sliding_window_pattern";
    let none = match model.get(PATTERN) {
        Some(Value::Numbers(_, span)) => {
            model.u32("attention.sliding_window")?.unwrap_or(0) > 0
                && span.of(&model.header.bytes).iter().all(|byte| *byte == 0)
        }
        Some(value) => value.as_u32() == Some(1),
        None => false,
    };
    demand(!none, "hparam", || format!("{} leaves no layer with a window", shown(&model.key(PATTERN))))
}

fn check_heads(model: &Model<'_>, layers: u64, width: u64) -> Result<()> {
    let heads = model.per_layer("attention.head_count", layers)?;
    let Some(heads) = heads.filter(|heads| heads.iter().any(|count| *count > 0)) else {
        let may = archs::may_lack_heads(model.arch);
        return demand(may, "missing", || format!("{} has no heads", shown(&model.key("attention.head_count"))));
    };
    let groups = model.per_layer("attention.head_count_kv", layers)?.unwrap_or_else(|| heads.clone());
    for (head, group) in heads.iter().zip(&groups) {
        let fits = *head <= MAX_WIDTH && (*group == 0 || (group <= head && head.is_multiple_of(*group)) || *head == 0);
        demand(fits, "hparam", || format!("{head} attention heads cannot share {group} keys"))?;
    }
    check_head_size(model, width, &heads)
}

fn check_head_size(model: &Model<'_>, width: u64, heads: &[u64]) -> Result<()> {
    let size = |suffix: &str| match model.u32(suffix)? {
        Some(size) => Ok(size),
        None if heads[0] == 0 => Ok(0), // the first layer is recurrent: llama.cpp derives nothing then
        None if width.is_multiple_of(heads[0]) => Ok(width / heads[0]),
        None => refuse("hparam", format!("{} heads do not divide {width}", heads[0])),
    };
    let (key, value) = (size("attention.key_length")?, size("attention.value_length")?);
    demand(key.max(value) <= MAX_WIDTH, "hparam", || format!("heads of {key} and {value}"))?;
    demand(key == value || !archs::has_equal_heads(model.arch), "hparam", || {
        format!("keys of {key} and values of {value} elements in a {} model", shown(model.arch))
    })?;
    check_rotation(model, "rope.dimension_count", key)?;
    let in_window = model.u32("attention.key_length_swa")?.unwrap_or(key);
    check_rotation(model, "rope.dimension_count_swa", in_window)
}

/// Pairs of elements are rotated, and no more than there are. Of none ggml's rotation does not end (seen with gemma2).
fn check_rotation(model: &Model<'_>, suffix: &str, key: u64) -> Result<()> {
    let Some(rotated) = model.u32(suffix)? else { return Ok(()) };
    demand(rotated.is_multiple_of(2) && rotated <= MAX_WIDTH, "hparam", || format!("{rotated} rotated elements"))?;
    demand(rotated > 0 || key == 0, "hparam", || format!("{} is 0", shown(&model.key(suffix))))?;
    demand(rotated <= key || key == 0 || model.u32("attention.key_length_mla")?.is_some(), "hparam", || {
        format!("{rotated} rotated elements of {key}")
    })?;
    demand(rotated == key || !archs::rotates_whole_head(model.arch), "hparam", || {
        format!("{rotated} rotated elements of {key} in a {} model", shown(model.arch))
    })
}

fn check_feed_forward(model: &Model<'_>, layers: u64) -> Result<()> {
    let sizes = model.per_layer("feed_forward_length", layers)?.unwrap_or_default();
    demand(sizes.iter().all(|size| *size <= MAX_WIDTH), "hparam", || "an impossible feed-forward length".into())
}

fn check_experts(model: &Model<'_>, layers: u64) -> Result<()> {
    let mut experts = model.u32("expert_count")?.unwrap_or(0);
    let mut used = model.per_layer("expert_used_count", layers)?.unwrap_or_default().into_iter().max().unwrap_or(0);
    if experts <= 1 && model.arch.starts_with("hunyuan") {
        (experts, used) = (0, 0); // llama.cpp takes one expert for none there
    }
    let groups = model.u32("expert_group_count")?.unwrap_or(0);
    let group_used = model.u32("expert_group_used_count")?.unwrap_or(0);
    let fits = match experts {
        0 => used == 0 && groups == 0,
        _ => (1..=experts).contains(&used) && groups < experts && experts <= MAX_EXPERTS,
    };
    demand(fits, "hparam", || format!("{used} of {experts} experts in {groups} groups"))?;
    let grouped = groups < 2 || (experts.is_multiple_of(groups) && (1..groups).contains(&group_used));
    demand(grouped, "hparam", || format!("{experts} experts in {groups} groups, of which {group_used} are used"))?;
    let predicted = model.u32("nextn_predict_layers")?.unwrap_or(0);
    demand(predicted < layers, "hparam", || format!("{predicted} of {layers} layers predict further tokens"))
}

fn check_rope_scaling(model: &Model<'_>) -> Result<()> {
    if model.get("rope.scaling.type").is_none() {
        return Ok(());
    }
    let name = model.header.text(&model.key("rope.scaling.type"));
    demand(name.is_some_and(|name| SCALINGS.contains(&name)), "hparam", || {
        format!("the unknown rope scaling {}", shown(name.unwrap_or("(no text)")))
    })
}
