//! The header of one file: its keys and its table of tensors, as written. What they mean is judged elsewhere.

use std::{
    collections::{HashMap, HashSet},
    io::Read,
};

use crate::{
    cursor::{Cursor, Span},
    limits::{MAX_ALIGNMENT, MAX_HEADER, MAX_KEY, MAX_KEYS, MAX_NAME, MAX_STRING, MAX_TENSORS, MAX_TEXTS},
    refusal::{Result, demand, refuse, shown},
    tensor::{self, Tensor},
    value::{Kind, Value},
};

/// `GGUF`.
const MAGIC: u32 = u32::from_le_bytes(*b"GGUF");
/// The number of arrays among the kinds of values.
const ARRAY: u32 = 9;

/// One file's header.
pub struct Header {
    /// All its bytes.
    pub bytes: Vec<u8>,
    /// What stands under which key.
    pub values: HashMap<String, Value>,
    /// The table of tensors, in the order of the file.
    pub tensors: Vec<Tensor>,
}

impl Header {
    /// The header of a file of `size` bytes. Every tensor of it lies inside the file, apart from all others.
    pub fn read(source: impl Read, size: u64) -> Result<Self> {
        let mut cursor = Cursor::new(source, size);
        demand(size >= 24 && cursor.u32()? == MAGIC, "magic", || "not a GGUF file".into())?;
        let version = cursor.u32()?;
        demand(matches!(version, 2 | 3), "version", || format!("GGUF version {version}; 2 and 3 can be read"))?;
        let tensors = cursor.length(MAX_TENSORS, "tensor count")?;
        let keys = cursor.length(MAX_KEYS, "key count")?;
        let values = read_values(&mut cursor, keys)?;
        let alignment = alignment(&values)?;
        let tensors = read_tensors(&mut cursor, tensors, alignment)?;
        let data = cursor.at().next_multiple_of(alignment);
        tensor::check_places(&tensors, data, size)?;
        Ok(Self { bytes: cursor.into_bytes(), values, tensors })
    }

    /// The value of a key, if it is there.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The string under a key; None if there is none, or it is something else.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::Text(span)) => std::str::from_utf8(span.of(&self.bytes)).ok(),
            _ => None,
        }
    }

    /// The u32 under a key, None if it is not there; refused if it is of another type, as llama.cpp does.
    pub fn u32(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u32() {
            Some(number) => Ok(Some(number)),
            None => refuse("type", format!("{} must be an unsigned number of 32 bits", shown(key))),
        }
    }
}

fn read_values<R: Read>(cursor: &mut Cursor<R>, count: u64) -> Result<HashMap<String, Value>> {
    let mut values = HashMap::new();
    for _ in 0..count {
        let key = cursor.string(MAX_KEY, "key length")?;
        let key = utf8(cursor.bytes(), key, "a key")?.to_owned();
        demand(!key.is_empty() && !key.contains('\0'), "key", || format!("the key {}", shown(&key)))?;
        let value = read_value(cursor, &key)?;
        demand(!values.contains_key(&key), "duplicate", || format!("the key {} is there twice", shown(&key)))?;
        values.insert(key, value);
    }
    Ok(values)
}

fn read_value<R: Read>(cursor: &mut Cursor<R>, key: &str) -> Result<Value> {
    let number = cursor.u32()?;
    if number == ARRAY {
        return read_array(cursor, key);
    }
    let kind = kind(number, key)?;
    if kind == Kind::Text {
        let text = cursor.string(MAX_STRING, key)?;
        utf8(cursor.bytes(), text, key)?;
        return Ok(Value::Text(text));
    }
    let span = cursor.take(kind.width())?;
    let mut bits = [0; 8];
    bits[..span.size()].copy_from_slice(span.of(cursor.bytes()));
    let bits = u64::from_le_bytes(bits);
    demand(kind != Kind::Bool || bits <= 1, "type", || format!("{} is neither true nor false", shown(key)))?;
    Ok(Value::Scalar(kind, bits))
}

fn read_array<R: Read>(cursor: &mut Cursor<R>, key: &str) -> Result<Value> {
    let kind = kind(cursor.u32()?, key)?; // an array of arrays is no kind: the format allows it, llama.cpp does not
    if kind != Kind::Text {
        let count = cursor.length(MAX_HEADER / kind.width(), key)?;
        return Ok(Value::Numbers(kind, cursor.take(count * kind.width())?)); // at most MAX_HEADER
    }
    let count = cursor.length(MAX_TEXTS, key)?;
    cursor.need(count * 8)?; // each has at least its length: a huge count cannot make us allocate
    let mut texts = Vec::with_capacity(count as usize);
    for _ in 0..count {
        texts.push(cursor.string(MAX_STRING, key)?);
    }
    Ok(Value::Texts(texts))
}

fn kind(number: u32, key: &str) -> Result<Kind> {
    match Kind::from_number(number) {
        Some(kind) => Ok(kind),
        None => refuse("type", format!("{} has the unknown type {number}", shown(key))),
    }
}

fn utf8<'a>(bytes: &'a [u8], span: Span, what: &str) -> Result<&'a str> {
    match std::str::from_utf8(span.of(bytes)) {
        Ok(text) => Ok(text),
        Err(_) => refuse("utf8", format!("{} is not UTF-8", shown(what))),
    }
}

fn alignment(values: &HashMap<String, Value>) -> Result<u64> {
    let Some(value) = values.get("general.alignment") else { return Ok(32) };
    match value.as_u32() {
        Some(number) if number.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(&number) => Ok(number),
        _ => refuse("alignment", format!("the alignment is no power of two from 8 to {MAX_ALIGNMENT}")),
    }
}

fn read_tensors<R: Read>(cursor: &mut Cursor<R>, count: u64, alignment: u64) -> Result<Vec<Tensor>> {
    let mut names = HashSet::new();
    let mut tensors = Vec::new();
    for _ in 0..count {
        let span = cursor.string(MAX_NAME, "tensor name")?;
        let name = utf8(cursor.bytes(), span, "a tensor's name")?.to_owned();
        demand(!name.is_empty() && !name.contains('\0'), "key", || format!("the tensor name {}", shown(&name)))?;
        demand(names.insert(name.clone()), "duplicate", || format!("two tensors are called {}", shown(&name)))?;
        tensors.push(Tensor::read(cursor, name, alignment)?);
    }
    Ok(tensors)
}
