//! Which instructions hash on this processor: chosen once, by rules measured with `make bench`.
//!
//! | kernel | SHA-1, GB/s | SHA-256, GB/s | messages at once |
//! |---|---|---|---|
//! | SHA-NI | 5.2 (one message: 1.95) | 3.5 (one: 1.83) | 6, 4 |
//! | AVX-512 | 5.8 | 3.2 | 16 |
//! | AVX2 | 2.6 | 1.4 | 8 |
//! | portable | 0.86 | 0.37 | 1 |
//!
//! (one core of a Zen 4 server, 64 KiB messages in the cache.) So the SHA instructions win where they are, with few
//! pieces in memory, and only they make the file's SHA-256, one dependent chain, faster; sixteen pieces are better
//! hashed by AVX-512. Without the SHA instructions the widest vectors win. `HALI_HASH_BACKEND` names another backend,
//! for tests and measurements.

use std::sync::OnceLock;

use crate::{
    error::{Error, Result},
    kernels::{Block, State1, State256, portable},
};

/// The environment variable that names a backend.
pub(crate) const VARIABLE: &str = "HALI_HASH_BACKEND";

/// Compression functions that work on any number of independent messages, all of the same number of blocks.
pub(crate) struct Backend {
    /// As `HALI_HASH_BACKEND` says it.
    pub(crate) name: &'static str,
    /// SHA-1 messages that keep a core busy.
    pub(crate) lanes: usize,
    /// Whether this processor has what it needs.
    present: fn() -> bool,
    /// Feeds each message to its SHA-1 state.
    pub(crate) sha1: fn(&mut [State1], &[&[Block]]),
    /// Feeds each message to its SHA-256 state.
    pub(crate) sha256: fn(&mut [State256], &[&[Block]]),
    /// Feeds one message to two SHA-256 states in the time of one, where the processor can.
    pub(crate) pair: Option<Pair>,
}

type Pair = fn(&mut [State256; 2], &[Block]);

/// Best first.
static ALL: &[&Backend] = &[
    #[cfg(target_arch = "x86_64")]
    &x86::SHA_NI_AVX512,
    #[cfg(target_arch = "x86_64")]
    &x86::SHA_NI,
    #[cfg(target_arch = "x86_64")]
    &x86::AVX512,
    #[cfg(target_arch = "x86_64")]
    &x86::AVX2,
    #[cfg(target_arch = "aarch64")]
    &arm::ARMV8,
    &PORTABLE,
];

static PORTABLE: Backend = Backend {
    name: "portable",
    lanes: 1,
    present: || true,
    sha1: |states, messages| each(1, states, messages, portable::sha1),
    sha256: |states, messages| each(1, states, messages, portable::sha256),
    pair: None,
};

/// Calls `work` for up to `lanes` messages at a time.
fn each<S>(lanes: usize, states: &mut [S], messages: &[&[Block]], mut work: impl FnMut(&mut [S], &[&[Block]])) {
    for (states, messages) in states.chunks_mut(lanes).zip(messages.chunks(lanes)) {
        work(states, messages);
    }
}

/// The names of the backends that work on this processor, best first.
pub fn available() -> Vec<&'static str> {
    ALL.iter().filter(|backend| (backend.present)()).map(|backend| backend.name).collect()
}

/// The backend in use; an error when `HALI_HASH_BACKEND` names one that is not available.
pub(crate) fn active() -> Result<&'static Backend> {
    static ACTIVE: OnceLock<Option<&Backend>> = OnceLock::new();
    let chosen = ACTIVE.get_or_init(|| choose(std::env::var(VARIABLE).ok().as_deref()));
    chosen.ok_or_else(|| Error::NoBackend { asked: std::env::var(VARIABLE).unwrap_or_default() })
}

/// The best backend, or the one asked for if it is available; an empty name asks for none.
fn choose(asked: Option<&str>) -> Option<&'static Backend> {
    let wanted = |backend: &&&Backend| match asked {
        None | Some("") => true,
        Some(name) => name == backend.name,
    };
    ALL.iter().filter(wanted).find(|backend| (backend.present)()).copied()
}

/// What hashes here, in words for people, such as `sha1=sha-ni sha256=sha-ni blake3=avx512`.
///
/// BLAKE3's part mirrors the run-time detection of the `blake3` crate, which no variable changes.
pub fn describe() -> Result<String> {
    let name = active()?.name;
    Ok(format!("sha1={name} sha256={name} blake3={}", blake3_backend()))
}

#[cfg(target_arch = "x86_64")]
fn blake3_backend() -> &'static str {
    use std::arch::is_x86_feature_detected as has;
    if has!("avx512f") && has!("avx512vl") {
        "avx512"
    } else if has!("avx2") {
        "avx2"
    } else if has!("sse4.1") {
        "sse4.1"
    } else {
        "sse2"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn blake3_backend() -> &'static str {
    if cfg!(target_arch = "aarch64") { "neon" } else { "portable" }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::is_x86_feature_detected as has;

    use super::{Backend, each};
    use crate::kernels::{Block, portable, sha_ni, x86};

    /// Calls a kernel that needs instructions which [`Backend::present`] has found.
    macro_rules! detected {
        ($call:expr) => {
            // SAFETY: a backend is chosen only after `present` has found every feature its kernels enable.
            unsafe { $call }
        };
    }

    /// A kernel for a fixed number of messages, called with slices of that length.
    macro_rules! fixed {
        ($kernel:path, $states:ident, $messages:ident) => {
            if let (Ok(states), Ok(messages)) = ($states.try_into(), $messages.try_into()) {
                let messages: &[&[Block]; _] = messages;
                detected!($kernel(states, *messages));
            }
        };
    }

    pub(super) static SHA_NI_AVX512: Backend = Backend {
        name: "sha-ni+avx512",
        lanes: 16,
        present: || (SHA_NI.present)() && (AVX512.present)(),
        sha1: |states, messages| {
            each(16, states, messages, |states, messages| match messages.len() {
                // with one lane idle AVX-512 still is the faster one, with two it is not
                15.. => detected!(x86::sha1_avx512(states, messages)),
                _ => (SHA_NI.sha1)(states, messages),
            });
        },
        sha256: SHA_NI.sha256,
        pair: SHA_NI.pair,
    };

    // A second message is nearly free and a third still pays; from then on more registers are spilled than time is
    // filled: SHA-1 gains 3.3, 4.2, 5.0, 5.0, 5.2 GB/s with two to six, and loses with eight.
    pub(super) static SHA_NI: Backend = Backend {
        name: "sha-ni",
        lanes: 6,
        present: || has!("sha") && has!("ssse3") && has!("sse4.1"),
        sha1: |states, messages| {
            each(6, states, messages, |states, messages| match messages.len() {
                6 => fixed!(sha_ni::sha1::<6>, states, messages),
                5 => fixed!(sha_ni::sha1::<5>, states, messages),
                4 => fixed!(sha_ni::sha1::<4>, states, messages),
                3 => fixed!(sha_ni::sha1::<3>, states, messages),
                2 => fixed!(sha_ni::sha1::<2>, states, messages),
                _ => fixed!(sha_ni::sha1::<1>, states, messages),
            });
        },
        sha256: |states, messages| {
            each(4, states, messages, |states, messages| match messages.len() {
                4 => fixed!(sha_ni::sha256::<4>, states, messages),
                3 => fixed!(sha_ni::sha256::<3>, states, messages),
                2 => fixed!(sha_ni::sha256::<2>, states, messages),
                _ => fixed!(sha_ni::sha256::<1>, states, messages),
            });
        },
        pair: Some(|states, message| detected!(sha_ni::sha256_pair(states, message))),
    };

    // One message in sixteen lanes costs more than one by itself.
    pub(super) static AVX512: Backend = Backend {
        name: "avx512",
        lanes: 16,
        present: || has!("avx512f") && has!("avx512bw") && has!("avx2"),
        sha1: |states, messages| {
            each(16, states, messages, |states, messages| match messages.len() {
                1 => portable::sha1(states, messages),
                2..=8 => detected!(x86::sha1_avx2(states, messages)),
                _ => detected!(x86::sha1_avx512(states, messages)),
            });
        },
        sha256: |states, messages| {
            each(16, states, messages, |states, messages| match messages.len() {
                1 => portable::sha256(states, messages),
                2..=8 => detected!(x86::sha256_avx2(states, messages)),
                _ => detected!(x86::sha256_avx512(states, messages)),
            });
        },
        pair: None,
    };

    pub(super) static AVX2: Backend = Backend {
        name: "avx2",
        lanes: 8,
        present: || has!("avx2"),
        sha1: |states, messages| {
            each(8, states, messages, |states, messages| match messages.len() {
                1 => portable::sha1(states, messages),
                _ => detected!(x86::sha1_avx2(states, messages)),
            });
        },
        sha256: |states, messages| {
            each(8, states, messages, |states, messages| match messages.len() {
                1 => portable::sha256(states, messages),
                _ => detected!(x86::sha256_avx2(states, messages)),
            });
        },
        pair: None,
    };
}

/// The `sha1` and `sha2` crates call the ARMv8 instructions; one message at a time.
#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::is_aarch64_feature_detected as has;

    use super::{Backend, each};

    pub(super) static ARMV8: Backend = Backend {
        name: "armv8",
        lanes: 1,
        present: || has!("sha2"),
        sha1: |states, messages| {
            each(1, states, messages, |states, messages| sha1::block_api::compress(&mut states[0], messages[0]));
        },
        sha256: |states, messages| {
            each(1, states, messages, |states, messages| sha2::block_api::compress256(&mut states[0], messages[0]));
        },
        pair: None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::constants::{IV1, IV256};

    /// Bytes that differ from block to block and message to message.
    fn content(messages: usize, blocks: usize) -> Vec<Vec<Block>> {
        let byte = |m: usize, b: usize, i: usize| (m * 151 + b * 89 + i * 7 + (m ^ b ^ i)) as u8;
        (0..messages).map(|m| (0..blocks).map(|b| std::array::from_fn(|i| byte(m, b, i))).collect()).collect()
    }

    #[test]
    fn every_backend_feeds_any_number_of_messages_as_the_portable_one_does() {
        for name in available() {
            let backend = choose(Some(name)).expect("available");
            for (messages, blocks) in (0..40).flat_map(|m| [0, 1, 2, 5].map(|b| (m, b))) {
                let content = content(messages, blocks);
                let given: Vec<&[Block]> = content.iter().map(Vec::as_slice).collect();
                let (mut expected, mut found) = (vec![IV1; messages], vec![IV1; messages]);
                (PORTABLE.sha1)(&mut expected, &given);
                (backend.sha1)(&mut found, &given);
                assert_eq!(found, expected, "{name}: SHA-1 of {messages} × {blocks}");
                let (mut expected, mut found) = (vec![IV256; messages], vec![IV256; messages]);
                (PORTABLE.sha256)(&mut expected, &given);
                (backend.sha256)(&mut found, &given);
                assert_eq!(found, expected, "{name}: SHA-256 of {messages} × {blocks}");
            }
        }
    }

    /// Rounds of the fuzz test: many more under `HALI_LONG`, and new ones each time.
    fn rounds() -> (u64, u64) {
        let now =
            || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |t| t.as_nanos() as u64);
        if std::env::var_os("HALI_LONG").is_some() { (20_000, now() | 1) } else { (300, 1) }
    }

    #[test]
    fn random_messages_at_any_address_are_hashed_alike_by_all() {
        let (rounds, seed) = rounds();
        let mut random = seed;
        let mut below = |limit: u64| {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % limit
        };
        for round in 0..rounds {
            let (messages, blocks) = (below(40) as usize, below(8) as usize);
            // Each message ends exactly where its memory does, so that a sanitizer sees a read beyond it.
            let bytes: Vec<Box<[u8]>> = (0..messages)
                .map(|_| {
                    let size = 64 * blocks + below(64) as usize;
                    (0..size).map(|_| below(256) as u8).collect()
                })
                .collect();
            let given: Vec<&[Block]> = bytes.iter().map(|b| b[b.len() - 64 * blocks..].as_chunks().0).collect();
            let start: Vec<State256> = (0..messages).map(|_| std::array::from_fn(|_| below(1 << 32) as u32)).collect();
            let start1: Vec<State1> = start.iter().map(|s| std::array::from_fn(|i| s[i])).collect();
            let (mut expected, mut expected1) = (start.clone(), start1.clone());
            (PORTABLE.sha256)(&mut expected, &given);
            (PORTABLE.sha1)(&mut expected1, &given);
            for backend in available().into_iter().filter_map(|name| choose(Some(name))) {
                let (mut found, mut found1) = (start.clone(), start1.clone());
                (backend.sha256)(&mut found, &given);
                (backend.sha1)(&mut found1, &given);
                assert!(found == expected && found1 == expected1, "{}, seed {seed}, round {round}", backend.name);
            }
        }
    }

    #[test]
    fn a_pair_of_states_takes_the_same_message() {
        for backend in available().into_iter().filter_map(|name| choose(Some(name))) {
            let Some(pair) = backend.pair else { continue };
            let content = content(1, 9);
            let mut together = [IV256, [7; 8]];
            pair(&mut together, &content[0]);
            let mut alone = [IV256, [7; 8]];
            (PORTABLE.sha256)(&mut alone, &[&content[0], &content[0]]);
            assert_eq!(together, alone, "{}", backend.name);
        }
    }

    #[test]
    fn an_unknown_backend_is_none_at_all() {
        assert!(choose(Some("sha-nix")).is_none());
        assert_eq!(choose(Some("portable")).map(|b| b.name), Some("portable"));
        assert_eq!(choose(None).map(|b| b.name), available().first().copied());
        assert_eq!(choose(Some("")).map(|b| b.name), available().first().copied());
    }
}
