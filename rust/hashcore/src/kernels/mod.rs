//! The compression functions, each over several independent messages at once.
//!
//! One SHA message is a chain of dependent steps that leaves most of a core idle; several messages side by side do not
//! wait for each other. `lanes` is the algorithm over any vector of 32-bit words, `x86` brings AVX2 (8 messages) and
//! AVX-512 (16), `sha_ni` interleaves the SHA instructions of x86, `portable` is plain Rust.

pub(crate) mod constants;
mod lanes;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
pub(crate) mod sha_ni;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

/// One block of a SHA-1 or SHA-256 message.
pub(crate) type Block = [u8; 64];

/// SHA-1's chaining value.
pub(crate) type State1 = [u32; 5];

/// SHA-256's chaining value.
pub(crate) type State256 = [u32; 8];
