//! Which instructions do the work on this processor.

/// One digest's name and the instruction set it runs on, in words for people.
fn describe(sha1: &str, sha256: &str, blake3: &str) -> String {
    format!("sha1={sha1} sha256={sha256} blake3={blake3}")
}

/// The instruction sets in use, such as `sha1=sha-ni sha256=sha-ni blake3=avx512`.
///
/// Mirrors the run-time detection of the `sha1`, `sha2` and `blake3` crates.
#[cfg(target_arch = "x86_64")]
pub fn backend() -> String {
    use std::arch::is_x86_feature_detected as has;
    let sha = if has!("sha") && has!("ssse3") && has!("sse4.1") { "sha-ni" } else { "portable" };
    let blake3 = if has!("avx512f") && has!("avx512vl") {
        "avx512"
    } else if has!("avx2") {
        "avx2"
    } else if has!("sse4.1") {
        "sse4.1"
    } else {
        "sse2"
    };
    describe(sha, sha, blake3)
}

/// The instruction sets in use.
#[cfg(target_arch = "aarch64")]
pub fn backend() -> String {
    let sha = if std::arch::is_aarch64_feature_detected!("sha2") { "armv8-sha" } else { "portable" };
    describe(sha, sha, "neon")
}

/// The instruction sets in use.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn backend() -> String {
    describe("portable", "portable", "portable")
}
