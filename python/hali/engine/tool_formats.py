"""How models spell tool calls: one row a family, recognised by what its chat template says. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hali.engine.python_body import PythonBody
from hali.engine.tag_body import TaggedBody, Tags
from hali.engine.tool_bodies import Body, Either, JsonBody, MakeBody, NamedBody, Schemas

_NAME = r"(?P<name>[\w.\-]{1,128})"
_MISTRAL_HEAD = re.compile(rf"\s*{_NAME}(?:\[CALL_ID\][^\[\]{{}}]*)?(?:\[ARGS\])?\s*")
_FUNCTION_HEAD = re.compile(rf"{_NAME}>\s*")
_DEEPSEEK_HEAD = re.compile(rf"(?:function<｜tool▁sep｜>)?{_NAME}(?:<｜tool▁sep｜>|\s*```json)\s*")
_KIMI_HEAD = re.compile(rf"(?:functions\.)?{_NAME}:\d+\s*<\|tool_call_argument_begin\|>\s*")
_SOLAR_HEAD = re.compile(rf"[^<]*<\|tool_call:name\|>{_NAME}<\|tool_call:args\|>\s*")
_QWEN_NAME = re.compile(r"<function=(?P<name>[^>\n]+)>")
_QWEN_ARGUMENT = re.compile(r"<parameter=(?P<key>[^>\n]+)>\n?(?P<value>.*?)\n?</parameter>", re.DOTALL)
_GLM_NAME = re.compile(r"\s*(?P<name>[\w.\-]+)\s*(?=<arg_key>|$)")
_GLM_ARGUMENT = re.compile(r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>", re.DOTALL)
_QUOTED_NAME = re.compile(r'(?P<name>[^"<>\n]+)">')
_PARAMETER = re.compile(
    r'<(?P<tag>(?:｜DSML｜)?param(?:eter)?) name="(?P<key>[^"]+)"[^>]*>\n?(?P<value>.*?)\n?</(?P=tag)>', re.DOTALL
)
_QWEN = Tags("<function=", "</function>", _QWEN_NAME, _QWEN_ARGUMENT, ("</tool_call>",))
_SEED = replace(_QWEN, closings=("</seed:tool_call>",))
_INVOKE = Tags("", "</invoke>", _QUOTED_NAME, _PARAMETER)
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
        *("</seed:tool_call>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
        *("<|tool_call:name|>", "<|tool_call:args|>", "<|tool_call:end|>"),
    }
)


def _json(*closings: str) -> MakeBody:
    return lambda _: JsonBody(closings)


def _named(head: re.Pattern[str], *closings: str) -> MakeBody:
    return lambda _: NamedBody(head, closings)


def _tool_call(schemas: Schemas) -> Body:
    return Either(JsonBody(("</tool_call>",)), TaggedBody(_QWEN, schemas), TaggedBody(_GLM, schemas))


def _tagged(tags: Tags) -> MakeBody:
    return lambda schemas: TaggedBody(tags, schemas)


def _python(_: Schemas) -> Body:
    return Either(JsonBody(("<|tool_call_end|>",)), PythonBody("<|tool_call_end|>"))


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
# Hermes, Qwen 2.5, Qwen 3, Qwen3-Coder, GLM 4, Granite 4, SmolLM2; and what `spell_tools` asks for.
GENERIC = Format(_ANY)
FORCED = Format(_ANY[2:])  # what `forced_schema` makes


def _family(*openings: Opening, noise: tuple[str, ...] = ()) -> Format:
    return Format((*openings, *_ANY), noise)


_LFM = _family(Opening("<|tool_call_start|>", _python))
_DSML = replace(_INVOKE, end="</｜DSML｜invoke>")
_FAMILIES = (  # what the template says → the model's own format; the first that fits
    ("[TOOL_CALLS]", _family(Opening("[TOOL_CALLS]", _mistral))),
    (
        "｜DSML｜",  # DeepSeek V3.2 and V4
        _family(
            Opening('<｜DSML｜invoke name="', _tagged(_DSML)),
            noise=tuple(f"<{end}｜DSML｜{name}>" for end in ("", "/") for name in ("function_calls", "tool_calls")),
        ),
    ),
    (_DEEPSEEK.mark, _family(_DEEPSEEK, noise=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"))),
    ("<|START_ACTION|>", _family(Opening("<|START_ACTION|>", _json("<|END_ACTION|>")))),  # Command R7B and A
    ("<|tool_call|>", _family(Opening("<|tool_call|>", _json("<|/tool_call|>")))),  # Granite 3, Phi-4-mini
    (
        "<|tool_call_begin|>",  # Kimi K2
        _family(
            Opening("<|tool_call_begin|>", _named(_KIMI_HEAD, "<|tool_call_end|>")),
            noise=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        ),
    ),
    (
        "<|tool_call:begin|>",  # Solar Open
        _family(
            Opening("<|tool_call:begin|>", _named(_SOLAR_HEAD, "<|tool_call:end|>")),
            noise=("<|tool_calls|>", "<|calls|>"),
        ),
    ),
    ("<|tool_call_start|>", _LFM),
    ("List of tools: ", _LFM),
    ("<|function_call|>", _family(Opening("<|function_call|>", _json()))),  # GigaChat 3.1
    ("<TOOLCALL>", _family(Opening("<TOOLCALL>", _json("</TOOLCALL>")))),  # Nemotron Nano 2
    ("<seed:tool_call>", _family(Opening("<seed:tool_call>", _tagged(_SEED)))),  # Seed-OSS
    (
        "<minimax:tool_call>",  # MiniMax M2
        _family(Opening('<invoke name="', _tagged(_INVOKE)), noise=("<minimax:tool_call>", "</minimax:tool_call>")),
    ),
    ("<tool_calls>", _family(Opening("<tool_calls>", _json("</tool_calls>")), noise=("</tool_calls>",))),  # Apriel
    ("<tool_call>", GENERIC),
    ("<function=", _family(Opening("<function=", _named(_FUNCTION_HEAD, "</function>")))),  # Functionary 3.1
    (
        '<function name="',  # MiniCPM5
        _family(Opening('<function name="', _tagged(replace(_INVOKE, end="</function>")))),
    ),
    ("<|start_header_id|>ipython", _family(Opening("<|python_tag|>", _json()), noise=(";",))),  # Llama 3.1 to 3.3
)


def recognise(template: str) -> Format:
    """The format of a model whose chat template knows tools; GENERIC for one that shows none we know."""
    return next((found for sign, found in _FAMILIES if sign in template), GENERIC)
