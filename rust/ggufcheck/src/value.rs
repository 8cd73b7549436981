//! Metadata values, and how llama.cpp reads them: a key of another type than expected is not there.

use crate::cursor::Span;

/// `gguf_metadata_value_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    U64,
    I64,
    F64,
}

impl Kind {
    /// The kind of a number in a file; None for the number of arrays and for unknown ones.
    pub fn from_number(number: u32) -> Option<Self> {
        use Kind::{Bool, F32, F64, I8, I16, I32, I64, Text, U8, U16, U32, U64};
        const KINDS: [Option<Kind>; 13] = [
            Some(U8),
            Some(I8),
            Some(U16),
            Some(I16),
            Some(U32),
            Some(I32),
            Some(F32),
            Some(Bool),
            Some(Text),
            None,
            Some(U64),
            Some(I64),
            Some(F64),
        ];
        KINDS.get(number as usize).copied().flatten()
    }

    /// Bytes of one; 0 for texts, which have a length of their own.
    pub fn width(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::Text => 0,
        }
    }
}

/// One value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Number or truth value: its bytes, zero-extended.
    Scalar(Kind, u64),
    /// A string; UTF-8.
    Text(Span),
    /// Numbers, side by side.
    Numbers(Kind, Span),
    /// Strings; any bytes.
    Texts(Vec<Span>),
}

impl Value {
    /// The number, if it is exactly a u32: what llama.cpp takes for sizes and token ids.
    pub fn as_u32(&self) -> Option<u64> {
        match self {
            Self::Scalar(Kind::U32, bits) => Some(*bits),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Scalar(Kind::Bool, bits) => Some(*bits != 0),
            _ => None,
        }
    }

    /// The number, if it is exactly an f32.
    pub fn as_f32(&self) -> Option<f64> {
        if matches!(self, Self::Scalar(Kind::F32, _)) { self.as_float() } else { None }
    }

    /// The number, if it is a floating-point one.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Scalar(Kind::F32, bits) => Some(f64::from(f32::from_bits(*bits as u32))),
            Self::Scalar(Kind::F64, bits) => Some(f64::from_bits(*bits)),
            _ => None,
        }
    }

    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        matches!(self, Self::Numbers(..) | Self::Texts(_))
    }

    /// The elements of an array of u32 or i32 (llama.cpp takes either for either); None for all else.
    pub fn as_words(&self, bytes: &[u8]) -> Option<Vec<u32>> {
        match self {
            Self::Numbers(Kind::U32 | Kind::I32, span) => {
                let words = span.of(bytes).as_chunks::<4>().0;
                Some(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
            }
            _ => None,
        }
    }
}
