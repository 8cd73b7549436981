"""How models spell tool calls: one row a family, recognised by what its chat template says. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hali.engine.tool_bodies import Body, Either, JsonBody, MakeBody, NamedBody, Schemas, TaggedBody, Tags

_NAME = r"(?P<name>[\w.\-]{1,128})"
_MISTRAL_HEAD = re.compile(rf"\s*{_NAME}(?:\[CALL_ID\][^\[\]{{}}]*)?(?:\[ARGS\])?\s*")
_FUNCTION_HEAD = re.compile(rf"{_NAME}>\s*")
_DEEPSEEK_HEAD = re.compile(rf"(?:function<｜tool▁sep｜>)?{_NAME}(?:<｜tool▁sep｜>|\s*```json)\s*")
_QWEN_NAME = re.compile(r"<function=(?P<name>[^>\n]+)>")
_QWEN_ARGUMENT = re.compile(r"<parameter=(?P<key>[^>\n]+)>\n?(?P<value>.*?)\n?</parameter>", re.DOTALL)
_GLM_NAME = re.compile(r"\s*(?P<name>[\w.\-]+)\s*(?=<arg_key>|$)")
_GLM_ARGUMENT = re.compile(r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>", re.DOTALL)


_QWEN = Tags("<function=", "</function>", _QWEN_NAME, _QWEN_ARGUMENT, ("</tool_call>",))
_GLM = Tags("", "</tool_call>", _GLM_NAME, _GLM_ARGUMENT)


@dataclass(frozen=True)
class Opening:
    """A mark that begins calls. `first`: only where nothing but white space came before; `kept`: part of the body."""

    mark: str
    body: MakeBody
    first: bool = False
    kept: bool = False


@dataclass(frozen=True)
class Format:
    """How calls begin, and what stands between and around them without meaning anything."""

    openings: tuple[Opening, ...]
    noise: tuple[str, ...] = ()

    @property
    def marks(self) -> frozenset[str]:
        """What may be special tokens, which no client sees and the reader must."""
        return _INNER_MARKS.union(self.noise, (opening.mark for opening in self.openings))


_INNER_MARKS = frozenset(
    {
        *("[ARGS]", "[CALL_ID]", "</tool_call>", "<|/tool_call|>", "<|END_ACTION|>", "</function>"),
        *("<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    }
)


def _json(*closings: str) -> MakeBody:
    return lambda _: JsonBody(closings)


def _named(head: re.Pattern[str], *closings: str) -> MakeBody:
    return lambda _: NamedBody(head, closings)


def _tool_call(schemas: Schemas) -> Body:
    return Either(JsonBody(("</tool_call>",)), TaggedBody(_QWEN, schemas), TaggedBody(_GLM, schemas))


def _mistral(_: Schemas) -> Body:
    return Either(JsonBody(), NamedBody(_MISTRAL_HEAD))


def _known(*closings: str) -> MakeBody:
    """JSON without a mark of its own is a call only if it names one of the request's tools."""
    return lambda schemas: JsonBody(closings, known=schemas)


# Every model may fall back on these: small ones forget the marks that their template asks for.
_ANY = (
    Opening("<tool_call>", _tool_call),
    Opening("```json", _known("```"), first=True),
    Opening("{", _known(), first=True, kept=True),
    Opening("[", _known(), first=True, kept=True),
)
_DEEPSEEK = Opening(
    "<｜tool▁call▁begin｜>", _named(_DEEPSEEK_HEAD, "```<｜tool▁call▁end｜>", "<｜tool▁call▁end｜>", "```")
)
GENERIC = Format(
    _ANY
)  # Hermes, Qwen 2.5, Qwen 3, Qwen3-Coder, GLM 4, Granite 4, SmolLM2; and what `spell_tools` asks for
FORCED = Format(_ANY[2:])  # what `forced_schema` makes
_FAMILIES = (  # what the template says → the model's own format
    ("[TOOL_CALLS]", Format((Opening("[TOOL_CALLS]", _mistral), *_ANY))),
    (_DEEPSEEK.mark, Format((_DEEPSEEK, *_ANY), ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"))),
    ("<|START_ACTION|>", Format((Opening("<|START_ACTION|>", _json("<|END_ACTION|>")), *_ANY))),  # Command R7B
    ("<|tool_call|>", Format((Opening("<|tool_call|>", _json("<|/tool_call|>")), *_ANY))),  # Granite 3, Phi-4-mini
    ("functools[", Format((Opening("functools", _json()), *_ANY))),  # Firefunction
    ("<tool_call>", GENERIC),
    ("<function=", Format((Opening("<function=", _named(_FUNCTION_HEAD, "</function>")), *_ANY))),  # Functionary 3.1
    ("<|start_header_id|>ipython", Format((Opening("<|python_tag|>", _json()), *_ANY), (";",))),  # Llama 3.1 to 3.3
)


def recognise(template: str) -> Format:
    """The format of a model whose chat template knows tools; GENERIC for one that shows none we know."""
    return next((found for sign, found in _FAMILIES if sign in template), GENERIC)
