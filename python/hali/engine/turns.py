"""Messages as chat templates want them, and the rewritings for templates that want them otherwise. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, groupby
from operator import itemgetter
from typing import Any

from hali.model.generation import Message, Tool, ToolCall

Turn = dict[str, Any]  # a message in Transformers' shape
Rewriting = Callable[[list[Turn]], list[Turn]]

SHORT_ID = 9  # Mistral's templates refuse ids of any other length
_CALL_HELP = (
    "To call one, write a JSON object with its name and its arguments between <tool_call> tags, "
    "a block for each call, and nothing after the last:\n"
    '<tool_call>\n{"name": "function name", "arguments": {"argument": "value"}}\n</tool_call>\n'
    "Results come back between <tool_response> tags."
)


def as_turn(message: Message) -> Turn:
    """The message in Transformers' shape. Keys only where something was given: templates test for the key."""
    role = "system" if message.role == "developer" else message.role  # OpenAI's newer name; few templates know it
    turn: Turn = {"role": role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_calls:
        turn["tool_calls"] = [_as_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.reasoning is not None:  # "thinking" is gpt-oss' name for it; Transformers fills both
        turn |= {"thinking": message.reasoning, "reasoning_content": message.reasoning}
    return turn


def _as_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": _as_object(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _as_object(arguments: str) -> Any:
    """Templates expect an object; what is none stays the text it was."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def as_schema(tool: Tool) -> dict[str, Any]:
    """The tool in Transformers' shape."""
    described = {} if tool.description is None else {"description": tool.description}
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": tool.name, **described, "parameters": parameters}}


def uses_tools(turns: Sequence[Turn]) -> bool:
    """Whether there are calls or results among the turns."""
    return any(turn["role"] == "tool" or "tool_calls" in turn for turn in turns)


def as_parts(turns: Sequence[Turn]) -> list[Turn]:
    """Contents as lists of one part each."""
    return [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]


# --- rewritings for templates that refuse turns as they are


def forms(turns: list[Turn]) -> Iterator[list[Turn]]:
    """The turns as they are, then rewritten ever more: the first form that a template takes is right."""
    yield from _combined(turns)
    if uses_tools(turns):
        yield from _combined(spell_tools(turns, ()))


def _combined(turns: list[Turn]) -> Iterator[list[Turn]]:
    """With none, one, two, … of the applicable rewritings."""
    applicable: list[Rewriting] = [
        *([string_arguments, short_ids, one_call_a_turn] if uses_tools(turns) else []),
        *([fold_system] if any(turn["role"] == "system" for turn in turns) else []),
    ]
    for count in range(len(applicable) + 1):
        for chosen in combinations(applicable, count):
            changed = turns
            for rewriting in chosen:
                changed = rewriting(changed)
            yield changed


def string_arguments(turns: list[Turn]) -> list[Turn]:
    """Arguments as JSON text: some templates (of DeepSeek, for example) concatenate them."""

    def spelled(call: dict[str, Any]) -> dict[str, Any]:
        function = call["function"]
        if isinstance(function["arguments"], str):
            return call
        return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}

    return [
        {**turn, "tool_calls": [spelled(call) for call in turn["tool_calls"]]} if "tool_calls" in turn else turn
        for turn in turns
    ]


def short_ids(turns: list[Turn]) -> list[Turn]:
    """Ids of calls as nine letters and digits that depend on the id alone."""

    def short(ident: str) -> str:
        return ident if len(ident) == SHORT_ID else hashlib.sha256(ident.encode()).hexdigest()[:SHORT_ID]

    changed = []
    for turn in turns:
        if "tool_calls" in turn:
            turn = {**turn, "tool_calls": [{**call, "id": short(call["id"])} for call in turn["tool_calls"]]}
        if "tool_call_id" in turn:
            turn = {**turn, "tool_call_id": short(turn["tool_call_id"])}
        changed.append(turn)
    return changed


def one_call_a_turn(turns: list[Turn]) -> list[Turn]:
    """Parallel calls one after the other, each followed by its own result: Llama 3 knows single calls only."""
    results = {turn["tool_call_id"]: turn for turn in turns if turn["role"] == "tool" and "tool_call_id" in turn}
    split = {call["id"] for turn in turns if len(turn.get("tool_calls", ())) > 1 for call in turn["tool_calls"]}
    changed = []
    for turn in turns:
        calls = turn.get("tool_calls", ())
        if len(calls) > 1:
            for at, call in enumerate(calls):
                content = turn["content"] if at == 0 else ""
                changed.append({**turn, "content": content, "tool_calls": [call]})
                changed.extend(results[ident] for ident in [call["id"]] if ident in results)
        elif not (turn["role"] == "tool" and turn.get("tool_call_id") in split):
            changed.append(turn)
    return changed


def fold_system(turns: list[Turn]) -> list[Turn]:
    """What system turns say, at the beginning of the first user turn: Gemma and early Mistral models know no system role."""
    said = "\n\n".join(turn["content"] for turn in turns if turn["role"] == "system")
    rest = [turn for turn in turns if turn["role"] != "system"]
    first = next((at for at, turn in enumerate(rest) if turn["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": said}, *rest]
    folded = {**rest[first], "content": f"{said}\n\n{rest[first]['content']}"}
    return [*rest[:first], folded, *rest[first + 1 :]]


# --- for templates that know nothing of tools


def spell_tools(turns: list[Turn], tools: Sequence[dict[str, Any]]) -> list[Turn]:
    """Tools in the system turn, calls and results as text, all as Hermes models have it."""
    spelled: list[Turn] = []
    for role, group in groupby(map(_without_calls, turns), itemgetter("role")):
        alike = list(group)
        if role == "user":  # templates want the roles to alternate
            alike = [{**alike[0], "content": "\n".join(turn["content"] for turn in alike)}]
        spelled += alike
    return _with_help(spelled, tools) if tools else spelled


def _without_calls(turn: Turn) -> Turn:
    if turn["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{turn['content']}\n</tool_response>"}
    if "tool_calls" not in turn:
        return turn
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in turn["tool_calls"]]
    content = "\n".join([*filter(None, [turn["content"]]), *(f"<tool_call>\n{call}\n</tool_call>" for call in calls)])
    return {key: value for key, value in turn.items() if key != "tool_calls"} | {"content": content}


def _with_help(turns: list[Turn], tools: Sequence[dict[str, Any]]) -> list[Turn]:
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = f"You can call these functions:\n<tools>\n{listed}\n</tools>\n{_CALL_HELP}"
    if turns and turns[0]["role"] == "system":
        return [{**turns[0], "content": f"{turns[0]['content']}\n\n{text}"}, *turns[1:]]
    return [{"role": "system", "content": text}, *turns]
