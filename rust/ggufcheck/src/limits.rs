//! The budget: what a header may cost before it is believed.

/// Bytes of a header. The largest vocabularies (256 k tokens with 500 k merges) take 15 MB.
pub const MAX_HEADER: u64 = 128 << 20;
/// What is read at once, and at most too much.
pub const WINDOW: usize = 1 << 20;
/// Ordinary files have 20 to 60.
pub const MAX_KEYS: u64 = 4096;
/// The longest real key is under 60 bytes; the format allows 65,535.
pub const MAX_KEY: u64 = 1024;
/// The largest mixtures of experts have a few thousand.
pub const MAX_TENSORS: u64 = 65_536;
/// `GGML_MAX_NAME` with its final zero: llama.cpp refuses longer tensor names.
pub const MAX_NAME: u64 = 63;
/// Ordinary strings; the longest real ones are licences and chat templates.
pub const MAX_STRING: u64 = 4 << 20;
/// Chat templates reach 30 KB; a renderer parses them anew for each start.
pub const MAX_TEMPLATE: usize = 1 << 20;
/// Strings of one array: the largest real one has 514,906 merges.
pub const MAX_TEXTS: u64 = 1 << 22;
/// `LLAMA_MAX_LAYERS`: a model with more makes llama.cpp abort.
pub const MAX_LAYERS: u64 = 512;
/// `LLAMA_MAX_EXPERTS`: as above.
pub const MAX_EXPERTS: u64 = 1024;
/// Tokens of context. The largest real one is 10 M; llama.cpp gives the number back as a signed one.
pub const MAX_CONTEXT: u64 = 1 << 27;
/// Power of two from 8 on. Ordinary files have 32; a larger one than this makes no sense on any disk.
pub const MAX_ALIGNMENT: u64 = 1 << 16;
