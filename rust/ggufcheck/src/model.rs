//! A whole model: the first file says what it is, and its tensors may be spread over several files.

use std::collections::HashMap;

use crate::{
    header::Header,
    refusal::{Result, demand, refuse, shown},
    tensor::Tensor,
    value::Value,
};

/// The metadata of the first file with the tensors of all.
pub(crate) struct Model<'a> {
    /// The first file's header.
    pub(crate) header: &'a Header,
    /// `general.architecture`.
    pub(crate) arch: &'a str,
    /// Every tensor by its name.
    pub(crate) tensors: HashMap<&'a str, &'a Tensor>,
}

impl<'a> Model<'a> {
    /// The files of a model, the first one first; refused if they do not belong together.
    pub(crate) fn new(headers: &'a [Header]) -> Result<Self> {
        let Some(header) = headers.first() else { return refuse("split", "no file".into()) };
        check_split(headers)?;
        let Some(arch) = header.text("general.architecture").filter(|arch| !arch.is_empty()) else {
            return refuse("architecture", "the header names no architecture".into());
        };
        let mut tensors = HashMap::new();
        for tensor in headers.iter().flat_map(|header| &header.tensors) {
            demand(tensors.insert(&*tensor.name, tensor).is_none(), "duplicate", || {
                format!("two tensors are called {}", shown(&tensor.name))
            })?;
        }
        Ok(Self { header, arch, tensors })
    }

    /// `<architecture>.<suffix>`.
    pub(crate) fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.arch)
    }

    /// The value of a key of the architecture.
    pub(crate) fn get(&self, suffix: &str) -> Option<&Value> {
        self.header.get(&self.key(suffix))
    }

    /// The u32 of a key of the architecture.
    pub(crate) fn u32(&self, suffix: &str) -> Result<Option<u64>> {
        self.header.u32(&self.key(suffix))
    }

    /// A u32 that must be there, from `low` to `high`.
    pub(crate) fn required(&self, suffix: &str, low: u64, high: u64) -> Result<u64> {
        let Some(value) = self.u32(suffix)? else {
            return refuse("missing", format!("the header says nothing of {}", shown(&self.key(suffix))));
        };
        demand((low..=high).contains(&value), "hparam", || {
            format!("{} is {value}, outside {low} to {high}", shown(&self.key(suffix)))
        })?;
        Ok(value)
    }

    /// One number a layer: an array of `layers` numbers, or one for all; None if the key is not there.
    pub(crate) fn per_layer(&self, suffix: &str, layers: u64) -> Result<Option<Vec<u64>>> {
        let Some(value) = self.get(suffix) else { return Ok(None) };
        if !value.is_array() {
            return Ok(self.u32(suffix)?.map(|one| vec![one; layers as usize])); // at most MAX_LAYERS
        }
        let Some(words) = value.as_words(&self.header.bytes) else {
            return refuse("type", format!("{} has no numbers of 32 bits", shown(&self.key(suffix))));
        };
        demand(words.len() as u64 == layers, "hparam", || {
            format!("{} has {} numbers for {layers} layers", shown(&self.key(suffix)), words.len())
        })?;
        Ok(Some(words.into_iter().map(u64::from).collect()))
    }
}

/// `split.no` and `split.count` of each file are as its place says, and the number of tensors adds up.
fn check_split(headers: &[Header]) -> Result<()> {
    let total: usize = headers.iter().map(|header| header.tensors.len()).sum();
    for (number, header) in headers.iter().enumerate() {
        let count = match header.get("split.count") {
            Some(Value::Scalar(_, count)) => *count,
            Some(_) => return refuse("split", "split.count is no number".into()),
            None => 0,
        };
        demand(count.max(1) == headers.len() as u64, "split", || {
            format!("file {} of {} says that there are {count}", number + 1, headers.len())
        })?;
        if count > 1 {
            let place = matches!(header.get("split.no"), Some(Value::Scalar(_, place)) if *place == number as u64);
            demand(place, "split", || format!("file {} of {count} says that it is another one", number + 1))?;
        }
        if let (0, Some(Value::Scalar(_, said))) = (number, header.get("split.tensors.count")) {
            demand(*said == total as u64, "split", || format!("{said} tensors are expected and {total} there"))?;
        }
    }
    Ok(())
}
