//! The normaliser of SentencePiece unigram vocabularies: a trie that llama.cpp walks with the bytes of a prompt, and a
//! table of replacements. A step outside is an exception that nobody catches, so every possible step is taken here.
//!
//! Layout (SentencePiece's `precompiled_charsmap`, as llama.cpp reads it): bytes of the trie as u32, the trie (u32 each:
//! base in the high bits, a flag for leaves, the byte that leads here in the low ones), then the replacements, each ending in 0.

use std::collections::HashSet;

use crate::refusal::{Result, demand, refuse};

/// Nodes of the trie and bytes of replacements; real ones have 60,000 and 70,000.
const MAX_BYTES: usize = 16 << 20;

/// Refused if some text could lead llama.cpp out of the map.
pub(crate) fn check(map: &[u8]) -> Result<()> {
    demand(map.len() <= MAX_BYTES, "limit", || format!("a character map of {} bytes", map.len()))?;
    let Some((head, rest)) = map.split_first_chunk::<4>() else {
        return refuse("charsmap", "the character map has no length".into());
    };
    let length = u32::from_le_bytes(*head) as usize;
    let Some((trie, replacements)) = rest.split_at_checked(length).filter(|(_, texts)| !texts.is_empty()) else {
        return refuse("charsmap", "the character map is cut off".into());
    };
    let nodes: Vec<u32> = trie.as_chunks::<4>().0.iter().map(|node| u32::from_le_bytes(*node)).collect();
    if nodes.is_empty() {
        return Ok(()); // llama.cpp does not walk it then
    }
    walk(&nodes, replacements)
}

/// Take every step that some text can take, each place once.
fn walk(nodes: &[u32], replacements: &[u8]) -> Result<()> {
    let last_end = replacements.iter().rposition(|byte| *byte == 0);
    let mut seen = HashSet::new();
    let mut open = vec![base(nodes[0])];
    while let Some(place) = open.pop() {
        if !seen.insert(place) {
            continue;
        }
        for byte in 1..=255_u32 {
            let child = place ^ byte;
            let node = at(nodes, child)?;
            if node & ((1 << 31) | 0xff) != byte {
                continue;
            }
            let next = child ^ base(node);
            if (node >> 8) & 1 == 1 {
                let text = (at(nodes, next)? & ((1 << 31) - 1)) as usize;
                demand(last_end.is_some_and(|end| text <= end), "charsmap", || "a replacement lies outside".into())?;
            }
            open.push(next);
        }
    }
    Ok(())
}

fn base(node: u32) -> u32 {
    (node >> 10) << ((node & (1 << 9)) >> 6)
}

fn at(nodes: &[u32], index: u32) -> Result<u32> {
    match nodes.get(index as usize) {
        Some(node) => Ok(*node),
        None => refuse("charsmap", format!("the character map leads to node {index} of {}", nodes.len())),
    }
}
