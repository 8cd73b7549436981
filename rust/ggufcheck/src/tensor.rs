//! The table of tensors: shapes, types and places.

use std::io::Read;

use crate::{
    cursor::Cursor,
    ggml::{Class, tensor_type},
    refusal::{Result, demand, refuse, shown},
};

/// `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;

/// One tensor.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// As llama.cpp looks it up.
    pub name: String,
    /// Elements in each direction, rows first.
    pub shape: Vec<u64>,
    /// What may be computed with it.
    pub class: Class,
    /// Bytes from the beginning of the tensor data.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Tensor {
    /// The rest of its entry, after the name.
    pub(crate) fn read<R: Read>(cursor: &mut Cursor<R>, name: String, alignment: u64) -> Result<Self> {
        let dims = cursor.u32()?;
        demand((1..=MAX_DIMS).contains(&dims), "shape", || format!("{} has {dims} dimensions", shown(&name)))?;
        let mut shape = Vec::new();
        for _ in 0..dims {
            shape.push(cursor.u64()?);
        }
        let number = cursor.u32()?;
        let offset = cursor.u64()?;
        demand(offset.is_multiple_of(alignment), "offset", || {
            format!("{} is not aligned to {alignment} bytes", shown(&name))
        })?;
        let (class, size) = measure(&name, &shape, number)?;
        Ok(Self { name, shape, class, offset, size })
    }

    /// Refused if ggml has no operator for this type at this place.
    pub fn check_type(&self) -> Result<()> {
        let fits = match self.class {
            Class::F32 => true,
            Class::Matrix => !self.is_vector(),
            Class::Integer => INTEGER_TABLES.iter().any(|table| self.name.ends_with(table)),
            Class::Internal => false,
        };
        demand(fits, "tensor-type", || format!("{} is of a type that llama.cpp cannot use there", shown(&self.name)))
    }

    /// Norms and biases, which are added and multiplied element by element: always F32 in files that load.
    fn is_vector(&self) -> bool {
        self.shape.len() == 1 || self.name.ends_with("norm.weight") || self.name.ends_with(".bias")
    }
}

/// Tensors of integers that some architectures have: draft vocabularies, hashed routing.
const INTEGER_TABLES: [&str; 3] = ["d2t", "t2d", "tid2eid"];

/// What a shape of a type is good for, and its bytes.
fn measure(name: &str, shape: &[u64], number: u32) -> Result<(Class, u64)> {
    let Some(kind) = tensor_type(number) else {
        return refuse("tensor-type", format!("{} has the unknown type {number}", shown(name)));
    };
    let elements = shape.iter().try_fold(1_u64, |product, side| product.checked_mul(*side));
    let size = elements.and_then(|elements| (elements / kind.block).checked_mul(kind.width));
    let Some(size) = size.filter(|size| *size > 0 && elements.is_some_and(|count| count <= i64::MAX as u64)) else {
        return refuse("shape", format!("{} has the impossible shape {shape:?}", shown(name)));
    };
    demand(shape[0].is_multiple_of(kind.block), "shape", || {
        format!("{} has rows of {}, no multiple of {}", shown(name), shape[0], kind.block)
    })?;
    Ok((kind.class, size))
}

/// Each tensor lies inside the file of `size` bytes, whose tensor data begins at `data`, and no two overlap.
pub(crate) fn check_places(tensors: &[Tensor], data: u64, size: u64) -> Result<()> {
    let mut places = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let end = data.checked_add(tensor.offset).and_then(|start| start.checked_add(tensor.size));
        demand(end.is_some_and(|end| end <= size), "truncated", || {
            format!("{} lies beyond the end of the file at {size}", shown(&tensor.name))
        })?;
        places.push((tensor.offset, tensor.offset + tensor.size, &tensor.name));
    }
    places.sort_unstable();
    match places.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        Some(pair) => refuse("overlap", format!("{} and {} overlap", shown(pair[0].2), shown(pair[1].2))),
        None => Ok(()),
    }
}
