//! `ggml_type`: how many bytes a tensor has, and what llama.cpp can compute with. Facts of ggml.h.

/// A type of tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorType {
    /// Elements of a block; a row has a whole number of them.
    pub block: u64,
    /// Bytes of a block.
    pub width: u64,
    /// What it may be used for.
    pub class: Class,
}

/// What a type is good for. ggml aborts where an operator meets a type that it was not written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Everything: weights, norms, biases.
    F32,
    /// A matrix that others are multiplied by, or rows are taken from.
    Matrix,
    /// Tables of numbers that a few architectures look things up in.
    Integer,
    /// Intermediate results, never in a file.
    Internal,
}

/// The type of a number in a file; None for one that was removed from ggml or is not known.
pub fn tensor_type(number: u32) -> Option<TensorType> {
    use Class::{F32, Integer, Internal, Matrix};
    let (block, width, class) = match number {
        0 => (1, 4, F32),
        1 | 30 => (1, 2, Matrix),      // F16, BF16
        2 | 20 => (32, 18, Matrix),    // Q4_0, IQ4_NL
        3 => (32, 20, Matrix),         // Q4_1
        6 => (32, 22, Matrix),         // Q5_0
        7 => (32, 24, Matrix),         // Q5_1
        8 => (32, 34, Matrix),         // Q8_0
        9 => (32, 36, Internal),       // Q8_1
        10 => (256, 84, Matrix),       // Q2_K
        11 | 21 => (256, 110, Matrix), // Q3_K, IQ3_S
        12 => (256, 144, Matrix),      // Q4_K
        13 => (256, 176, Matrix),      // Q5_K
        14 => (256, 210, Matrix),      // Q6_K
        15 => (256, 292, Internal),    // Q8_K
        16 | 35 => (256, 66, Matrix),  // IQ2_XXS, TQ2_0
        17 => (256, 74, Matrix),       // IQ2_XS
        18 => (256, 98, Matrix),       // IQ3_XXS
        19 => (256, 50, Matrix),       // IQ1_S
        22 => (256, 82, Matrix),       // IQ2_S
        23 => (256, 136, Matrix),      // IQ4_XS
        24 => (1, 1, Integer),         // I8
        25 => (1, 2, Integer),         // I16
        26 => (1, 4, Integer),         // I32
        27 => (1, 8, Integer),         // I64
        28 => (1, 8, Internal),        // F64
        29 => (256, 56, Matrix),       // IQ1_M
        34 => (256, 54, Matrix),       // TQ1_0
        39 => (32, 17, Matrix),        // MXFP4
        40 => (64, 36, Matrix),        // NVFP4
        41 => (128, 18, Matrix),       // Q1_0
        42 => (64, 18, Matrix),        // Q2_0
        _ => return None,
    };
    Some(TensorType { block, width, class })
}
