"""Replies that are instances of a JSON schema or texts of a grammar: token masks by llguidance. Worker only."""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import cached_property
from typing import Any, Protocol

import llguidance
import msgspec
import numpy as np
from llama_cpp import llama_cpp as low

from hali.engine.closed import closed
from hali.engine.gbnf import to_lark
from hali.engine.schemas import guided
from hali.engine.trial import survives
from hali.model.errors import EngineFailed, UsageError
from hali.model.generation import ReplyFormat

MAX_SCHEMA_BYTES = 256 * 1024  # OpenAI takes 120,000 characters
# Between two tokens of JSON: nothing, a space, or a new line with its indentation. Bounded, or weak models fill their
# reply with it.
WHITESPACE = r"( |\n {0,20})"
# What can be expensive: regular expressions (also of separators, in x-guidance), what is merged by intersecting them,
# divisors (an automaton of as many states, and alternatives multiply), and long chains of $ref, each 25 bytes or more
# (llguidance follows them by recursion; 500 are harmless).
_RISKY = re.compile(r'"(pattern|patternProperties|allOf|format|multipleOf|\$dynamicRef)"')
_SMALL = 8 * 1024
_APART = "\x02"  # a token of its own in every vocabulary that has one for each byte: no word begins with it
_CACHED = 8  # compiled formats, 100 MB each at worst: as many states as a second makes
_LIMITS = llguidance.LLParserLimits(
    max_grammar_size=100_000,
    # Time: with rows of 10,000 items a hostile grammar takes minutes a token, with these a third of a second.
    max_items_in_row=2_000,
    step_max_items=200_000,
    max_lexer_states=20_000,  # 1 to 2 kB each
    verbose_errors=False,
)


class Vocabulary(Protocol):
    """What is needed of a model."""

    vocab: Any  # llama.cpp's handle
    n_vocab: int

    def is_end(self, token: int) -> bool:
        """Whether the token ends a reply."""

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of a token; those of special ones only where asked for."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Token ids of a text."""


class _Words(llguidance.TokenizerWrapper):
    """A vocabulary as llguidance wants it: the bytes of each token, and which of them are no text."""

    def __init__(self, model: Vocabulary, end: int) -> None:
        self._model = model
        self.eos_token_id, self.bos_token_id = end, None
        special = [token for token in range(model.n_vocab) if _is_special(model, token)]
        self.tokens = [model.piece(token, special=True) for token in range(model.n_vocab)]
        self.special_token_ids = special
        self.is_tokenizer_wrapper = True

    def __call__(self, text: bytes | str) -> list[int]:
        """Tokens whose bytes are those of `text`: what can only come so is taken from them."""
        words = text if isinstance(text, str) else text.decode("utf-8", "replace")
        tokens = self._split(words)
        return tokens if self._spelled(tokens) == words.encode() else self._unspaced(words)

    def _unspaced(self, words: str) -> list[int]:
        """SentencePiece's vocabularies put a space in front of a text: what stands behind another byte has none."""
        tokens = self._split(_APART + words)
        begins = [at + 1 for at, token in enumerate(tokens) if self.tokens[token] == _APART.encode()]
        return tokens[begins[0] :] if begins else self._split(words)

    def _split(self, words: str) -> list[int]:
        return self._model.tokenize(words, add_special=False, parse_special=False)

    def _spelled(self, tokens: list[int]) -> bytes:
        return b"".join(self.tokens[token] for token in tokens)


def _is_special(model: Vocabulary, token: int) -> bool:
    """Control tokens, and those like "<think>" that a model's makers added: no part of an answer's own text."""
    plain = model.piece(token)
    added = int(low.llama_vocab_get_attr(model.vocab, token)) & low.LLAMA_TOKEN_ATTR_USER_DEFINED
    return not plain or bool(added and plain.startswith(b"<") and plain.endswith(b">"))


class Constraint:
    """What a reply may still become. `check_first`: asking about one token is much cheaper than a mask of all."""

    def __init__(self, matcher: Any, n_vocab: int, what: str, *, check_first: bool) -> None:
        self._matcher, self._n_vocab, self._what = matcher, n_vocab, what
        self.check_first = check_first

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        return bool(self._matcher.validate_tokens([token]) == 1)

    def allowed(self) -> Any:
        """bool[n_vocab]: which tokens may come next, the end of the reply among them. UsageError if it cannot be told."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        return np.unpackbits(bits, count=self._n_vocab, bitorder="little").view(bool)

    def take(self, token: int) -> None:
        """`token` has come."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def complete(self) -> bool:
        """Whether nothing but the end can follow."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _refusal(self._what, self._matcher.get_error())


class Formats:
    """Compiled reply formats of one model, the last ones kept: clients send the same schema again and again."""

    def __init__(self, model: Vocabulary) -> None:
        self._model = model
        self._tokenizer: Any = None
        self._known: OrderedDict[tuple[str, str], Any] = OrderedDict()

    @cached_property
    def ends(self) -> list[int]:
        """The tokens that end a reply."""
        return [token for token in range(self._model.n_vocab) if self._model.is_end(token)]

    def constraint(self, wanted: ReplyFormat | None) -> Constraint | None:
        """A new constraint, None where any text will do. UsageError for formats that cannot be had."""
        if wanted is None or (wanted.schema is None and wanted.grammar is None):
            return None
        if wanted.schema is not None and wanted.grammar is not None:
            raise UsageError("a reply has either a schema or a grammar, not both", code="request")
        if wanted.grammar is not None:
            matcher = self._compiled("grammar", wanted.grammar)
            return Constraint(matcher, self._model.n_vocab, "grammar", check_first=True)
        matcher = self._compiled("schema", _schema_text(wanted.schema))
        return Constraint(matcher, self._model.n_vocab, "schema", check_first=False)

    def _compiled(self, what: str, text: str) -> Any:
        """A fresh matcher; failures are kept too, since finding one out may take a second."""
        key = (what, text)
        if key not in self._known:
            self._known[key] = self._compile(what, text)
            while len(self._known) > _CACHED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        found = self._known[key]
        if isinstance(found, UsageError):
            raise UsageError(found.message, code=found.code)
        return found.deep_copy()

    def _compile(self, what: str, text: str) -> Any:
        try:
            source = (
                _schema_grammar(text) if what == "schema" else llguidance.LLMatcher.grammar_from_lark(to_lark(text))
            )
            if what == "grammar" or len(text) > _SMALL or _RISKY.search(text):
                self._try(what, source)
            matcher = self._matcher(source)
            matcher.compute_bitmask()  # the first one is the dearest; and a format without any text shows here
            if matcher.is_error():
                raise _refusal(what, matcher.get_error())
        except UsageError as error:
            return error
        return matcher

    def _matcher(self, source: str) -> Any:
        return llguidance.LLMatcher(self._ready(), source, log_level=0, limits=_LIMITS)

    def _ready(self) -> Any:
        """llguidance's view of the vocabulary: half a second of work, done when first needed."""
        if self._tokenizer is None:
            if not self.ends:
                raise UsageError("this model has no token that ends a reply", code="format")
            words = _Words(self._model, self.ends[0])
            self._tokenizer = llguidance.LLTokenizer(words, n_vocab=self._model.n_vocab, eos_token=self.ends)
        return self._tokenizer

    def _try(self, what: str, source: str) -> None:
        self._ready()  # in this process, not in the child
        try:
            if survives(lambda: self._matcher(source).compute_bitmask()):
                return
        except OSError as error:
            raise EngineFailed(f"the {what} could not be tried out: {error.strerror}") from error
        raise UsageError(f"the {what} is too complex: compiling it takes more than a second, or crashes", code=what)


def _schema_text(schema: dict[str, Any] | bool | None) -> str:
    if schema is False:
        raise UsageError("the schema cannot be used: nothing is an instance of `false`", code="schema")
    try:
        text = _written(schema)  # first: to rewrite a schema of megabytes takes up to half a minute
        return _written(guided(closed(schema or {}), text))
    except RecursionError:
        raise UsageError("the schema cannot be used: it is nested too deeply", code="schema") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise UsageError(f"the schema cannot be written as JSON: {error}", code="schema") from None


def _written(schema: dict[str, Any] | bool | None) -> str:
    text = msgspec.json.encode(schema).decode()
    if len(text) > MAX_SCHEMA_BYTES:
        raise UsageError(f"the schema has {len(text)} bytes, at most {MAX_SCHEMA_BYTES}", code="schema")
    return text


def _schema_grammar(text: str) -> str:
    try:
        return llguidance.LLMatcher.grammar_from_json_schema(text, overrides={"whitespace_pattern": WHITESPACE})
    except ValueError as error:
        raise _refusal("schema", str(error)) from None


def _refusal(what: str, reason: str) -> UsageError:
    lines = [line.strip() for line in reason.splitlines() if line.strip() and not line.startswith("<")]
    return UsageError(f"the {what} cannot be used: {' '.join(lines)[:500]}", code=what)
