//! A small llama in memory, written value by value so that a test can lie about one of them.

#![allow(dead_code)] // each test binary uses a part

use ggufcheck::{Error, Refusal, check_model, read_header};

/// One value of a header.
#[derive(Clone)]
pub(crate) enum V {
    U32(u32),
    F32(f32),
    Bool(u8),
    Text(Vec<u8>),
    Texts(Vec<Vec<u8>>),
    Words(Vec<u32>),
    Floats(Vec<f32>),
    Bytes(Vec<u8>),
    /// Any type and any bytes behind it.
    Raw(u32, Vec<u8>),
}

/// One tensor: name, shape, type, bytes. The place follows from those before it.
#[derive(Clone)]
pub(crate) struct T {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) size: u64,
}

/// A file that can still be changed.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) keys: Vec<(String, V)>,
    pub(crate) tensors: Vec<T>,
}

const TOKENS: u64 = 3 + 256 + 1;

impl Image {
    /// Two blocks, four heads of 16 that share two keys, SentencePiece.
    pub(crate) fn llama() -> Self {
        let mut image = Self { keys: Vec::new(), tensors: Vec::new() };
        image.set("general.architecture", V::Text(b"llama".into()));
        for (key, number) in [
            ("block_count", 2),
            ("context_length", 128),
            ("embedding_length", 64),
            ("feed_forward_length", 96),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            ("rope.dimension_count", 16),
        ] {
            image.set(&format!("llama.{key}"), V::U32(number));
        }
        image.set("llama.attention.layer_norm_rms_epsilon", V::F32(1e-5));
        image.spm();
        image.add("token_embd.weight", &[64, TOKENS]);
        image.add("output_norm.weight", &[64]);
        for block in 0..2 {
            image.add(&format!("blk.{block}.attn_norm.weight"), &[64]);
            image.add(&format!("blk.{block}.attn_q.weight"), &[64, 64]);
        }
        image
    }

    fn spm(&mut self) {
        let mut tokens: Vec<Vec<u8>> = vec![b"<unk>".into(), b"<s>".into(), b"</s>".into()];
        tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>").into_bytes()));
        tokens.push("\u{2581}".into());
        let mut kinds = vec![2, 3, 3];
        kinds.extend([6; 256]);
        kinds.push(1);
        self.set("tokenizer.ggml.model", V::Text(b"llama".into()));
        self.set("tokenizer.ggml.scores", V::Floats(vec![0.0; tokens.len()]));
        self.set("tokenizer.ggml.tokens", V::Texts(tokens));
        self.set("tokenizer.ggml.token_type", V::Words(kinds));
        self.set("tokenizer.ggml.bos_token_id", V::U32(1));
        self.set("tokenizer.chat_template", V::Text(b"{{ messages }}".into()));
    }

    /// Put a value under a key, in the place of an older one.
    pub(crate) fn set(&mut self, key: &str, value: V) {
        match self.keys.iter_mut().find(|(name, _)| name == key) {
            Some(entry) => entry.1 = value,
            None => self.keys.push((key.into(), value)),
        }
    }

    /// Forget a key.
    pub(crate) fn unset(&mut self, key: &str) {
        self.keys.retain(|(name, _)| name != key);
    }

    /// A further F32 tensor.
    pub(crate) fn add(&mut self, name: &str, shape: &[u64]) {
        let size = shape.iter().product::<u64>() * 4;
        self.tensors.push(T { name: name.into(), shape: shape.into(), kind: 0, size });
    }

    /// The tensor of that name.
    pub(crate) fn tensor(&mut self, name: &str) -> &mut T {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor of that name")
    }

    /// The bytes up to the data, and the size of the file.
    pub(crate) fn pack(&self) -> (Vec<u8>, u64) {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            text(&mut out, key.as_bytes());
            put(&mut out, value);
        }
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            text(&mut out, tensor.name.as_bytes());
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().for_each(|side| out.extend(side.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += tensor.size.next_multiple_of(32);
        }
        let size = (out.len() as u64).next_multiple_of(32) + offset;
        (out, size)
    }

    /// What the checker says of it.
    pub(crate) fn judged(&self) -> Result<(), Refusal> {
        let (bytes, size) = self.pack();
        judged(&bytes, size)
    }
}

/// What the checker says of a file of `size` bytes that begins with `bytes`.
pub(crate) fn judged(bytes: &[u8], size: u64) -> Result<(), Refusal> {
    let headers = read_header(bytes, size).map(|header| [header]);
    match headers.and_then(|headers| check_model(&headers)) {
        Ok(()) => Ok(()),
        Err(Error::Refused(refusal)) => Err(refusal),
        Err(Error::Io(error)) => Err(Refusal { reason: "io", message: error.to_string() }),
    }
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn array(out: &mut Vec<u8>, kind: u32, count: usize) {
    out.extend(9_u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((count as u64).to_le_bytes());
}

fn put(out: &mut Vec<u8>, value: &V) {
    let mut scalar = |kind: u32, bytes: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        V::U32(number) => scalar(4, &number.to_le_bytes()),
        V::F32(number) => scalar(6, &number.to_le_bytes()),
        V::Bool(number) => scalar(7, &[*number]),
        V::Raw(kind, bytes) => scalar(*kind, bytes),
        V::Text(bytes) => {
            out.extend(8_u32.to_le_bytes());
            text(out, bytes);
        }
        V::Texts(items) => {
            array(out, 8, items.len());
            items.iter().for_each(|item| text(out, item));
        }
        V::Words(items) => {
            array(out, 5, items.len());
            items.iter().for_each(|item| out.extend(item.to_le_bytes()));
        }
        V::Floats(items) => {
            array(out, 6, items.len());
            items.iter().for_each(|item| out.extend(item.to_le_bytes()));
        }
        V::Bytes(items) => {
            array(out, 0, items.len());
            out.extend(items);
        }
    }
}
