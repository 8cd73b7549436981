//! The vocabulary: what llama.cpp asserts of it when it loads one, and when it turns the first text into tokens.

use std::collections::HashSet;

use crate::{
    charsmap,
    cursor::Span,
    limits::{MAX_TEMPLATE, MAX_TEXTS},
    model::Model,
    refusal::{Result, demand, refuse, shown},
    special,
    value::{Kind, Value},
};

/// `llama_token_type`: a token that stands for one byte.
const BYTE_TOKEN: u32 = 6;

/// The way in which a text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// SentencePiece BPE.
    Spm,
    /// WordPiece.
    Wpm,
    /// Byte-level BPE, with merges.
    Bpe,
    /// Unigram.
    Ugm,
    /// PLaMo-2.
    Plamo2,
    /// One that is judged by the general rules alone.
    Other,
}

impl Algorithm {
    fn of(name: &str) -> Self {
        match name {
            "llama" => Self::Spm,
            "bert" => Self::Wpm,
            "gpt2" | "hybriddna" | "whitespace" | "gemma4" => Self::Bpe,
            "t5" => Self::Ugm,
            "plamo2" => Self::Plamo2,
            _ => Self::Other,
        }
    }
}

/// How many tokens there are; None if the file has no vocabulary and does not say.
pub(crate) fn check(model: &Model<'_>) -> Result<Option<u64>> {
    check_template(model)?;
    let Some(name) = model.header.text("tokenizer.ggml.model") else {
        return refuse("missing", "the header names no tokenizer".into());
    };
    if matches!(name, "none" | "no_vocab") {
        let size = model.u32("vocab_size")?;
        demand(size.is_none_or(|size| size <= MAX_TEXTS), "limit", || "too many tokens".into())?;
        return Ok(size);
    }
    let algorithm = Algorithm::of(name);
    let tokens = Tokens::of(model)?;
    tokens.check_unique()?;
    check_scores(model, tokens.texts.len())?;
    check_kinds(model, &tokens, algorithm)?;
    tokens.check_bytes(algorithm)?;
    check_merges(model)?;
    check_charsmap(model, algorithm)?;
    special::check(model, algorithm, tokens.texts.len() as u64)?;
    Ok(Some(tokens.texts.len() as u64))
}

struct Tokens<'a> {
    bytes: &'a [u8],
    texts: &'a [Span],
}

impl<'a> Tokens<'a> {
    fn of(model: &'a Model<'_>) -> Result<Self> {
        match model.header.get("tokenizer.ggml.tokens") {
            Some(Value::Texts(texts)) if !texts.is_empty() => Ok(Self { bytes: &model.header.bytes, texts }),
            _ => refuse("vocabulary", "the header has no list of tokens".into()),
        }
    }

    /// As llama.cpp sees it: a C string.
    fn text(&self, index: usize) -> &'a [u8] {
        let text = self.texts[index].of(self.bytes);
        text.iter().position(|byte| *byte == 0).map_or(text, |end| &text[..end])
    }

    /// Two tokens of one spelling make llama.cpp abort. Empty ones get a name by their number.
    fn check_unique(&self) -> Result<()> {
        let mut seen = HashSet::with_capacity(self.texts.len());
        for index in 0..self.texts.len() {
            let text = self.text(index);
            let fresh = if text.is_empty() {
                seen.insert(format!("[EMPTY_{index}]").into_bytes().into())
            } else {
                seen.insert(std::borrow::Cow::Borrowed(text))
            };
            demand(fresh, "duplicate", || {
                format!("token {index} is spelled {} as another is", shown(&String::from_utf8_lossy(text)))
            })?;
        }
        Ok(())
    }

    /// Every byte of a text that no token covers becomes a token of its own: without it nobody catches the exception.
    fn check_bytes(&self, algorithm: Algorithm) -> Result<()> {
        if !matches!(algorithm, Algorithm::Spm | Algorithm::Plamo2) {
            return Ok(());
        }
        let mut found = [false; 256];
        for index in 0..self.texts.len() {
            match self.text(index) {
                [byte] if algorithm == Algorithm::Spm => found[*byte as usize] = true,
                text => spelled_byte(text).into_iter().for_each(|byte| found[byte as usize] = true),
            }
        }
        // No text has a zero byte: it would end it.
        let missing = found.iter().skip(1).position(|found| !found);
        demand(missing.is_none(), "vocabulary", || format!("no token for the byte {}", missing.unwrap_or(0) + 1))
    }
}

/// The byte of `<0x0A>`, in the one spelling that llama.cpp looks for.
fn spelled_byte(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let digits = std::str::from_utf8(digits).ok()?;
    let upper = digits.len() == 2 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
    u8::from_str_radix(digits, 16).ok().filter(|_| upper)
}

fn check_scores(model: &Model<'_>, tokens: usize) -> Result<()> {
    let (kind, span) = match model.header.get("tokenizer.ggml.scores") {
        None => return Ok(()),
        Some(Value::Numbers(kind @ (Kind::F32 | Kind::I32), span)) => (*kind, span.of(&model.header.bytes)),
        Some(_) => return refuse("type", "the scores of the tokens are no numbers of 32 bits".into()),
    };
    let scores = span.as_chunks::<4>().0;
    demand(scores.len() == tokens, "vocabulary", || format!("{} scores for {tokens} tokens", scores.len()))?;
    // a queue is ordered by them
    let sane = kind == Kind::I32 || scores.iter().all(|score| !f32::from_le_bytes(*score).is_nan());
    demand(sane, "vocabulary", || "a token's score is not a number".into())
}

fn check_kinds(model: &Model<'_>, tokens: &Tokens<'_>, algorithm: Algorithm) -> Result<()> {
    let kinds = match model.header.get("tokenizer.ggml.token_type") {
        None => return Ok(()),
        Some(Value::Numbers(Kind::I32, span)) => span.of(&model.header.bytes).as_chunks::<4>().0,
        Some(_) => return refuse("type", "the types of the tokens are no signed numbers of 32 bits".into()),
    };
    let count = tokens.texts.len();
    demand(kinds.len() == count, "vocabulary", || format!("{} types for {count} tokens", kinds.len()))?;
    for (index, kind) in kinds.iter().enumerate() {
        // its byte is read from the fourth and fifth character; WordPiece has no such tokens and aborts
        let fits = algorithm != Algorithm::Wpm && tokens.text(index).len() >= 3;
        demand(u32::from_le_bytes(*kind) != BYTE_TOKEN || fits, "vocabulary", || {
            format!("token {index} stands for a byte and does not say for which")
        })?;
    }
    Ok(())
}

fn check_merges(model: &Model<'_>) -> Result<()> {
    let merges = match model.header.get("tokenizer.ggml.merges") {
        None => return Ok(()),
        Some(Value::Texts(merges)) => merges,
        Some(_) => return refuse("type", "the merges are no texts".into()),
    };
    for (index, span) in merges.iter().enumerate() {
        let text = span.of(&model.header.bytes);
        let gap = text.iter().skip(1).position(|byte| *byte == b' ').map(|gap| gap + 1);
        demand(gap.is_some_and(|gap| gap + 1 < text.len()), "vocabulary", || {
            format!("merge {index} is not of two parts: {}", shown(&String::from_utf8_lossy(text)))
        })?;
    }
    Ok(())
}

fn check_charsmap(model: &Model<'_>, algorithm: Algorithm) -> Result<()> {
    match model.header.get("tokenizer.ggml.precompiled_charsmap") {
        Some(Value::Numbers(Kind::U8 | Kind::I8, span)) if algorithm == Algorithm::Ugm => {
            charsmap::check(span.of(&model.header.bytes))
        }
        Some(_) if algorithm == Algorithm::Ugm => refuse("type", "the character map is not made of bytes".into()),
        _ => Ok(()),
    }
}

fn check_template(model: &Model<'_>) -> Result<()> {
    for (key, value) in &model.header.values {
        if !key.starts_with("tokenizer.chat_template") || matches!(value, Value::Texts(_)) {
            continue; // an array has the names of further ones
        }
        let Value::Text(template) = value else {
            return refuse("type", format!("{} is no text", shown(key)));
        };
        let length = template.size();
        demand(length <= MAX_TEMPLATE, "limit", || {
            format!("{} has {length} bytes, at most {MAX_TEMPLATE}", shown(key))
        })?;
    }
    Ok(())
}
