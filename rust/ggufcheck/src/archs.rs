//! What llama.cpp's graphs take for granted of an architecture. An architecture that is not named here is judged by the
//! general rules alone.

/// The whole head is rotated: the graph aborts when `rope.dimension_count` is not the length of a key.
const WHOLE_HEAD: &[&str] = &[
    "apertus",
    "arcee",
    "arctic",
    "baichuan",
    "chameleon",
    "codeshell",
    "cogvlm",
    "cohere2moe",
    "dbrx",
    "deci",
    "deepseek",
    "dots1",
    "dream",
    "ernie4_5",
    "ernie4_5-moe",
    "exaone",
    "exaone-moe",
    "exaone4",
    "falcon",
    "granite",
    "granite_swa",
    "granitemoe",
    "graniteswitch",
    "grok",
    "grovemoe",
    "hunyuan-dense",
    "hunyuan-moe",
    "hunyuan_vl",
    "hy_v3",
    "internlm2",
    "jais2",
    "llada",
    "llada-moe",
    "llama",
    "llama-embed",
    "llama4",
    "maincoder",
    "mellum",
    "minimax-01",
    "minimax-m2",
    "mistral3",
    "nemotron",
    "olmo",
    "olmo2",
    "olmoe",
    "orion",
    "paddleocr",
    "pangu-embedded",
    "plamo",
    "qwen2",
    "qwen2moe",
    "qwen2vl",
    "qwen3",
    "qwen3moe",
    "qwen3vl",
    "qwen3vlmoe",
    "rnd1",
    "seed_oss",
    "smallthinker",
    "smollm3",
    "starcoder2",
    "talkie",
    "xverse",
];

/// Keys and values are of one length, or the graph aborts; so are those of `WHOLE_HEAD`.
const EQUAL_HEADS: &[&str] = &[
    "afmoe",
    "bert",
    "bitnet",
    "bloom",
    "chatglm",
    "cohere2",
    "eurobert",
    "glm4",
    "glm4moe",
    "gpt2",
    "gptneox",
    "jais",
    "jina-bert-v2",
    "jina-bert-v3",
    "laguna",
    "minimax-m3",
    "modern-bert",
    "mpt",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "openelm",
    "phi2",
    "phi3",
    "phimoe",
    "qwen",
    "refact",
    "spark2_5",
    "stablelm",
    "starcoder",
];

/// No attention at all: head counts are 0 or absent.
const NO_HEADS: &[&str] = &["mamba", "mamba2", "rwkv6", "rwkv7", "wavtokenizer-dec"];

/// Blocks may have neither attention nor a feed-forward part.
const EMPTY_BLOCKS: &[&str] = &["deci"];

/// The input is not rows of `embedding_length`: features, or hidden states of another model.
const OTHER_INPUT: &[&str] = &["wavtokenizer-dec", "eagle3", "dflash", "gemma4-assistant", "pockettts", "qwen3tts"];

/// See `WHOLE_HEAD`.
pub(crate) fn rotates_whole_head(arch: &str) -> bool {
    WHOLE_HEAD.contains(&arch)
}

/// See `EQUAL_HEADS`.
pub(crate) fn has_equal_heads(arch: &str) -> bool {
    rotates_whole_head(arch) || EQUAL_HEADS.contains(&arch)
}

/// See `NO_HEADS`.
pub(crate) fn may_lack_heads(arch: &str) -> bool {
    NO_HEADS.contains(&arch)
}

/// See `EMPTY_BLOCKS`.
pub(crate) fn may_have_empty_blocks(arch: &str) -> bool {
    EMPTY_BLOCKS.contains(&arch)
}

/// See `OTHER_INPUT`.
pub(crate) fn has_other_input(arch: &str) -> bool {
    OTHER_INPUT.contains(&arch)
}
