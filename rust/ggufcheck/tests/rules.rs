//! Each rule refuses the lie that it is there for, and nothing that llama.cpp takes.

mod common;

use common::{Image, T, V, judged};

/// The reason for which a llama with one change is refused; "" if it is not.
fn reason(change: impl FnOnce(&mut Image)) -> &'static str {
    let mut image = Image::llama();
    change(&mut image);
    image.judged().err().map_or("", |refusal| refusal.reason)
}

/// The reason for which a file of `size` bytes that begins with `bytes` is refused; "" if it is not.
fn why(bytes: &[u8], size: u64) -> &'static str {
    judged(bytes, size).err().map_or("", |refusal| refusal.reason)
}

fn set(key: &str, value: V) -> &'static str {
    reason(|image| image.set(key, value))
}

fn tokens(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> &'static str {
    reason(|image| {
        let entry = image.keys.iter_mut().find(|(name, _)| name == "tokenizer.ggml.tokens");
        let Some((_, V::Texts(items))) = entry else { panic!("tokens are texts") };
        change(items);
    })
}

#[test]
fn a_whole_model_passes() {
    assert_eq!(Image::llama().judged(), Ok(()));
}

#[test]
fn a_header_that_is_none_is_refused() {
    assert_eq!(why(b"GGML", 4), "magic");
    assert_eq!(why(&[0; 64], 64), "magic");
    let (mut bytes, size) = Image::llama().pack();
    bytes[4] = 1;
    assert_eq!(why(&bytes, size), "version");
}

#[test]
fn every_cut_of_the_file_is_refused() {
    let (bytes, size) = Image::llama().pack();
    for end in 0..bytes.len() {
        let reason = why(&bytes[..end], end as u64);
        assert!(matches!(reason, "magic" | "truncated" | "limit"), "{reason} at {end}");
    }
    assert_eq!(why(&bytes, size - 1), "truncated");
    assert_eq!(why(&bytes[..100], size), "io", "a file that became shorter meanwhile");
}

#[test]
fn counts_that_cannot_be_cost_nothing() {
    for (at, reasons) in [(8, ["limit", "key", "key"]), (16, ["limit", "truncated", "utf8"])] {
        for count in [1_u64 << 16, 1 << 32, 1 << 63, u64::MAX] {
            let (mut bytes, size) = Image::llama().pack();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            bytes.resize(size as usize, 0); // with the data, which is taken for more of the header
            let reason = why(&bytes, size);
            assert!(reasons.contains(&reason), "{reason} for {count} at {at}");
        }
    }
    let huge = [8_u32.to_le_bytes().as_slice(), &(1_u64 << 40).to_le_bytes()].concat();
    assert_eq!(set("some.array", V::Raw(9, huge)), "limit");
    let nested = [9_u32.to_le_bytes().as_slice(), &1_u64.to_le_bytes(), &[0; 64]].concat();
    assert_eq!(set("some.array", V::Raw(9, nested)), "type");
    assert_eq!(set("some.key", V::Raw(13, vec![0; 8])), "type");
}

#[test]
fn keys_are_there_once_and_are_text() {
    assert_eq!(reason(|image| image.keys.push(image.keys[1].clone())), "duplicate");
    assert_eq!(set("", V::U32(1)), "key");
    assert_eq!(set("a\0b", V::U32(1)), "key");
    assert_eq!(set("general.name", V::Text(vec![0xff])), "utf8");
    assert_eq!(set("some.flag", V::Bool(2)), "type");
}

#[test]
fn the_alignment_is_a_power_of_two() {
    assert_eq!(set("general.alignment", V::U32(32)), "");
    for wrong in [0, 1, 4, 33, 1 << 17, u32::MAX] {
        assert_eq!(set("general.alignment", V::U32(wrong)), "alignment", "{wrong}");
    }
    assert_eq!(set("general.alignment", V::F32(32.0)), "alignment");
    assert_eq!(set("general.alignment", V::U32(1 << 12)), "offset", "the tensors lie closer");
}

#[test]
fn tensors_have_possible_shapes_and_places() {
    let shaped = |shape: &[u64]| reason(|image| image.tensor("blk.1.attn_q.weight").shape = shape.into());
    assert_eq!(shaped(&[]), "shape");
    assert_eq!(shaped(&[64, 0]), "shape");
    assert_eq!(shaped(&[1 << 32, 1 << 32]), "shape");
    assert_eq!(shaped(&[1 << 62, 1]), "shape");
    assert_eq!(shaped(&[1, 1, 1, 1, 1]), "shape");
    assert_eq!(shaped(&[64, 64 * 64]), "truncated");
    assert_eq!(reason(|image| image.tensor("blk.0.attn_q.weight").size = 32), "overlap");
    assert_eq!(reason(|image| image.tensors.push(image.tensors[1].clone())), "duplicate");
    assert_eq!(reason(|image| image.tensor("blk.0.attn_q.weight").name = "x".repeat(64)), "limit");
    let blocks = T { name: "blk.0.ffn_up.weight".into(), shape: vec![48, 2], kind: 8, size: 108 };
    assert_eq!(reason(|image| image.tensors.push(blocks)), "shape", "48 is no multiple of 32");
}

#[test]
fn tensors_have_types_that_can_be_computed_with() {
    let typed = |name: &str, kind| reason(|image| image.tensor(name).kind = kind);
    assert_eq!(typed("blk.0.attn_q.weight", 1), "", "F16");
    assert_eq!(typed("blk.0.attn_q.weight", 8), "", "Q8_0");
    assert_eq!(typed("blk.0.attn_q.weight", 26), "tensor-type", "I32");
    assert_eq!(typed("blk.0.attn_q.weight", 9), "tensor-type", "Q8_1");
    assert_eq!(typed("blk.0.attn_q.weight", 4), "tensor-type", "removed from ggml");
    assert_eq!(typed("blk.0.attn_q.weight", 999), "tensor-type");
    assert_eq!(typed("blk.0.attn_norm.weight", 1), "tensor-type", "a norm in F16");
    assert_eq!(typed("output_norm.weight", 26), "tensor-type");
}

#[test]
fn blocks_are_as_many_as_are_said() {
    assert_eq!(set("llama.block_count", V::U32(3)), "blocks");
    assert_eq!(set("llama.block_count", V::U32(1)), "blocks");
    assert_eq!(set("llama.block_count", V::U32(0)), "hparam");
    assert_eq!(set("llama.block_count", V::U32(513)), "hparam");
    assert_eq!(reason(|image| image.unset("llama.block_count")), "missing");
    assert_eq!(reason(|image| image.add("blk.x.attn_q.weight", &[64])), "blocks");
    assert_eq!(reason(|image| image.tensors.clear()), "no-tensors");
}

#[test]
fn sizes_fit_each_other() {
    assert_eq!(set("llama.attention.head_count", V::U32(0)), "missing");
    assert_eq!(set("llama.attention.head_count", V::U32(5)), "hparam", "does not divide 64");
    assert_eq!(set("llama.attention.head_count_kv", V::U32(3)), "hparam");
    assert_eq!(set("llama.attention.head_count_kv", V::U32(8)), "hparam");
    assert_eq!(set("llama.attention.head_count_kv", V::Words(vec![2, 4])), "");
    assert_eq!(set("llama.attention.head_count_kv", V::Words(vec![2])), "hparam", "one layer too few");
    assert_eq!(set("llama.attention.head_count", V::Text(b"4".into())), "type");
    assert_eq!(set("llama.embedding_length", V::U32(128)), "hparam", "the rotated part is of 64");
    assert_eq!(reason(|image| image.tensor("token_embd.weight").shape = vec![32, 260]), "shape");
    assert_eq!(set("llama.attention.key_length", V::U32(32)), "hparam");
    assert_eq!(set("llama.rope.dimension_count", V::U32(8)), "hparam");
    assert_eq!(set("llama.rope.dimension_count_swa", V::U32(16)), "");
    assert_eq!(set("llama.rope.dimension_count_swa", V::U32(18)), "hparam");
    assert_eq!(set("llama.embedding_length_out", V::U32(64)), "");
    assert_eq!(set("llama.embedding_length_out", V::U32(65)), "hparam");
    let dense = |image: &mut Image| {
        image.set("llama.embedding_length_out", V::U32(96));
        image.add("dense_2.weight", &[64, 96]);
    };
    assert_eq!(reason(dense), "", "a layer makes the vectors longer");
    assert_eq!(set("llama.context_length", V::U32(0)), "hparam");
    assert_eq!(set("llama.context_length", V::U32(1 << 31)), "hparam", "negative for llama.cpp");
}

#[test]
fn numbers_are_numbers() {
    for wrong in [f32::NAN, f32::INFINITY, -1.0, 2.0] {
        assert_eq!(set("llama.attention.layer_norm_rms_epsilon", V::F32(wrong)), "hparam", "{wrong}");
    }
    assert_eq!(set("llama.rope.freq_base", V::F32(0.0)), "hparam");
    assert_eq!(set("llama.rope.freq_base", V::F32(10_000.0)), "");
    assert_eq!(set("llama.rope.scaling.factor", V::F32(f32::NAN)), "hparam");
    assert_eq!(set("llama.rope.scaling.type", V::Text(b"circular".into())), "hparam");
    assert_eq!(set("llama.rope.scaling.type", V::Text(b"yarn".into())), "");
    assert_eq!(set("llama.full_attention_interval", V::U32(0)), "hparam");
    assert_eq!(set("llama.logit_scale", V::F32(f32::INFINITY)), "hparam");
}

#[test]
fn windows_slide_in_some_layer() {
    let windows = |pattern| {
        reason(|image| {
            image.set("llama.attention.sliding_window", V::U32(64));
            image.set("llama.attention.sliding_window_pattern", pattern);
        })
    };
    assert_eq!(windows(V::U32(2)), "");
    assert_eq!(windows(V::U32(1)), "hparam");
    assert_eq!(windows(V::Words(vec![0, 1])), "");
    assert_eq!(windows(V::Words(vec![0, 0])), "hparam");
}

#[test]
fn experts_are_chosen_among_those_there_are() {
    let experts = |all, used, groups, group_used| {
        reason(|image| {
            image.set("llama.expert_count", V::U32(all));
            image.set("llama.expert_used_count", V::U32(used));
            image.set("llama.expert_group_count", V::U32(groups));
            image.set("llama.expert_group_used_count", V::U32(group_used));
        })
    };
    assert_eq!(experts(8, 2, 0, 0), "");
    assert_eq!(experts(8, 2, 4, 2), "");
    for (all, used, groups, group_used) in [
        (8, 0, 0, 0),
        (8, 9, 0, 0),
        (0, 1, 0, 0),
        (2048, 2, 0, 0),
        (8, 2, 8, 1),
        (8, 2, 3, 1),
        (8, 2, 4, 0),
        (8, 2, 4, 4),
    ] {
        assert_eq!(experts(all, used, groups, group_used), "hparam", "{all} {used} {groups} {group_used}");
    }
    assert_eq!(set("llama.nextn_predict_layers", V::U32(1)), "");
    assert_eq!(set("llama.nextn_predict_layers", V::U32(2)), "hparam", "no layer is left");
}

#[test]
fn tokens_are_spelled_once_and_cover_all_bytes() {
    assert_eq!(tokens(|items| items[259] = b"<s>".into()), "duplicate");
    assert_eq!(tokens(|items| items[259] = b"<s>\0x".into()), "duplicate", "llama.cpp reads up to the zero");
    assert_eq!(tokens(|items| items[259] = Vec::new()), "", "gets a name of its own");
    assert_eq!(tokens(|items| items[100] = b"<0x61x>".into()), "vocabulary", "a byte without a token");
    assert_eq!(tokens(|items| items[3 + 0x61] = b"a__".into()), "vocabulary");
    assert_eq!(tokens(|items| items[200] = b"x".into()), "vocabulary", "a byte token of one letter");
    assert_eq!(tokens(|items| items.truncate(200)), "vocabulary");
    assert_eq!(tokens(Vec::clear), "vocabulary");
    assert_eq!(reason(|image| image.unset("tokenizer.ggml.tokens")), "vocabulary");
    assert_eq!(reason(|image| image.unset("tokenizer.ggml.model")), "missing");
}

#[test]
fn lists_of_a_vocabulary_are_of_one_length() {
    assert_eq!(set("tokenizer.ggml.scores", V::Floats(vec![0.0; 259])), "vocabulary");
    assert_eq!(set("tokenizer.ggml.scores", V::Floats(vec![f32::NAN; 260])), "vocabulary");
    assert_eq!(set("tokenizer.ggml.scores", V::Bytes(vec![0; 260])), "type");
    assert_eq!(set("tokenizer.ggml.token_type", V::Words(vec![1; 261])), "vocabulary");
    assert_eq!(reason(|image| image.tensor("token_embd.weight").shape = vec![64, 259]), "vocabulary");
}

#[test]
fn special_tokens_are_in_the_vocabulary() {
    assert_eq!(set("tokenizer.ggml.bos_token_id", V::U32(260)), "vocabulary");
    assert_eq!(set("tokenizer.ggml.eos_token_id", V::U32(u32::MAX)), "vocabulary");
    assert_eq!(set("tokenizer.ggml.padding_token_id", V::U32(u32::MAX)), "", "files that work have it");
    assert_eq!(set("tokenizer.ggml.eos_token_id", V::F32(1.0)), "type");
    assert_eq!(set("tokenizer.ggml.add_bos_token", V::U32(1)), "type");
}

#[test]
fn a_text_cannot_begin_or_end_with_a_token_that_is_not_there() {
    let bert = |separator: Option<u32>| {
        reason(|image| {
            image.set("tokenizer.ggml.model", V::Text(b"bert".into()));
            image.set("tokenizer.ggml.token_type", V::Words(vec![1; 260]));
            image.set("tokenizer.ggml.bos_token_id", V::U32(1));
            separator.into_iter().for_each(|id| image.set("tokenizer.ggml.seperator_token_id", V::U32(id)));
        })
    };
    assert_eq!(bert(Some(2)), "");
    assert_eq!(bert(None), "", "102, as BERT has it");
    let unigram = |add: u8| {
        reason(|image| {
            image.set("tokenizer.ggml.model", V::Text(b"t5".into()));
            image.unset("tokenizer.ggml.bos_token_id");
            image.set("tokenizer.ggml.add_bos_token", V::Bool(add));
        })
    };
    assert_eq!(unigram(0), "");
    assert_eq!(unigram(1), "vocabulary");
}

#[test]
fn merges_have_two_parts() {
    let merges =
        |items: &[&str]| set("tokenizer.ggml.merges", V::Texts(items.iter().map(|item| (*item).into()).collect()));
    assert_eq!(merges(&["h e", "\u{120} t", "  a"]), "");
    for wrong in ["", "he", " he", "he "] {
        assert_eq!(merges(&["h e", wrong]), "vocabulary", "{wrong:?}");
    }
    assert_eq!(set("tokenizer.ggml.merges", V::Words(vec![1])), "type");
}

#[test]
fn a_template_is_a_text_of_some_length() {
    assert_eq!(set("tokenizer.chat_template", V::Text(vec![b' '; 1 << 20])), "");
    assert_eq!(set("tokenizer.chat_template", V::Text(vec![b' '; (1 << 20) + 1])), "limit");
    assert_eq!(set("tokenizer.chat_template", V::U32(1)), "type");
}

/// A trie in which `a` leads to a leaf that is replaced by the text at `place`.
fn charsmap(place: u32, leaf_base: u32) -> &'static str {
    let mut nodes = [0_u32; 512];
    nodes[0] = 256 << 10; // the root's children lie at 256 ^ byte
    nodes[256 ^ 0x61] = leaf_base << 10 | 1 << 8 | 0x61;
    nodes[(256 ^ 0x61) ^ 1] = place;
    let mut map = (nodes.len() as u32 * 4).to_le_bytes().to_vec();
    nodes.iter().for_each(|node| map.extend(node.to_le_bytes()));
    map.extend(b"A\0BC\0");
    reason(|image| {
        image.set("tokenizer.ggml.model", V::Text(b"t5".into()));
        image.set("tokenizer.ggml.add_bos_token", V::Bool(0));
        image.set("tokenizer.ggml.precompiled_charsmap", V::Bytes(map));
    })
}

#[test]
fn a_character_map_leads_nowhere_outside() {
    assert_eq!(charsmap(2, 1), "");
    assert_eq!(charsmap(5, 1), "charsmap", "beyond the replacements");
    assert_eq!(charsmap(2, 1 << 20), "charsmap", "beyond the nodes");
}

#[test]
fn parts_of_a_split_belong_together() {
    let part = |number: u32, count: u32, tensors: std::ops::Range<usize>| {
        let mut image = Image::llama();
        image.tensors = image.tensors[tensors].to_vec();
        if number > 0 {
            image.keys.clear();
        }
        image.set("split.no", V::U32(number));
        image.set("split.count", V::U32(count));
        let (bytes, size) = image.pack();
        ggufcheck::read_header(&*bytes, size).unwrap_or_else(|_| panic!("a whole part"))
    };
    let good = [part(0, 2, 0..3), part(1, 2, 3..6)];
    assert!(ggufcheck::check_model(&good).is_ok());
    assert!(ggufcheck::check_model(&good[..1]).is_err(), "one is missing");
    assert!(ggufcheck::check_model(&[part(0, 2, 0..3), part(0, 2, 3..6)]).is_err(), "the same number twice");
    assert!(ggufcheck::check_model(&[part(0, 2, 0..4), part(1, 2, 3..6)]).is_err(), "a tensor in both");
    assert!(ggufcheck::check_model(&[]).is_err());
}

/// The reason for which an adapter with one change is refused; "" if it is not.
fn adapter(change: impl FnOnce(&mut Image)) -> &'static str {
    let mut image = Image { keys: Vec::new(), tensors: Vec::new() };
    for (key, text) in [("general.architecture", "llama"), ("general.type", "adapter"), ("adapter.type", "lora")] {
        image.set(key, V::Text(text.into()));
    }
    image.set("adapter.lora.alpha", V::F32(8.0));
    image.add("blk.0.attn_q.weight.lora_a", &[64, 4]);
    image.add("blk.0.attn_q.weight.lora_b", &[4, 64]);
    image.add("token_embd.weight.lora_a", &[4, 260]);
    image.add("token_embd.weight.lora_b", &[4, 64]);
    change(&mut image);
    let (bytes, size) = image.pack();
    match ggufcheck::read_header(&*bytes, size).and_then(|header| ggufcheck::check_adapter(&header)) {
        Err(ggufcheck::Error::Refused(refusal)) => refusal.reason,
        Err(ggufcheck::Error::Io(_)) => "io",
        Ok(()) => "",
    }
}

#[test]
fn adapters_are_pairs_that_fit_each_other() {
    assert_eq!(adapter(|_| ()), "");
    assert_eq!(adapter(|image| image.unset("adapter.lora.alpha")), "");
    assert_eq!(adapter(|image| image.set("adapter.lora.alpha", V::F32(f32::NAN))), "hparam");
    assert_eq!(adapter(|image| image.set("adapter.lora.alpha", V::U32(8))), "hparam");
    assert_eq!(adapter(|image| image.set("adapter.type", V::Text(b"control".into()))), "adapter");
    assert_eq!(adapter(|image| image.set("general.type", V::U32(1))), "adapter");
    assert_eq!(adapter(|image| image.unset("general.architecture")), "architecture");
    assert_eq!(adapter(|image| image.tensors.clear()), "no-tensors");
    assert_eq!(adapter(|image| image.tensors.truncate(3)), "adapter", "one half");
    assert_eq!(adapter(|image| image.add("output.weight", &[64, 64])), "adapter", "no half");
    assert_eq!(adapter(|image| image.tensors[0].shape = vec![32, 8]), "shape");
    assert_eq!(adapter(|image| image.tensors[0].kind = 26), "tensor-type");
}
