"""llama-cpp-python as the judge of a greedy text: was each token the likeliest, or as good as?

The same text computed in batches of another shape has other roundings, which a quantised model amplifies. Where two
tokens are nearly tied, that decides between them. The judge walks through the text with its own logits, one token at a
time as it would generate, and tells each place where it would have gone on differently, and by how much.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

# Logits. Between batch shapes the logits of SmolLM2 at four bits move by 0.5 to 0.9 at the most (over all 49,152 tokens);
# those of the likely ones move less: the gaps seen at places that went the other way were 0.03 to 0.12.
NEAR_TIE = 0.5
_JUDGE = """
import json, sys, llama_cpp, numpy
path, n_ctx = sys.argv[1], int(sys.argv[2])
llm = llama_cpp.Llama(path, n_ctx=n_ctx, n_threads=1, n_threads_batch=1, flash_attn=True, verbose=False)
end = llm.token_eos()
pieces = [llm.detokenize([token], special=False) for token in range(llm.n_vocab())]

def candidates(logits):
    order = numpy.argsort(-logits)
    return (int(token) for token in order)

def judge(tokens, rest, ended):
    llm.reset()
    llm.eval(tokens)
    differs, step = [], 0
    while rest or ended:
        logits = numpy.ctypeslib.as_array(llm._ctx.get_logits_ith(-1), (llm.n_vocab(),)).copy()
        ranked = candidates(logits)
        best = next(ranked)
        if isinstance(rest, list):
            token = rest[0] if rest else end
        else:
            fits = lambda token: rest.startswith(pieces[token]) and pieces[token] if rest else token == end
            token = best if fits(best) else next((token for token in ranked if fits(token)), None)
        if token is None:
            raise SystemExit(f"no token continues with {rest[:20]!r}")
        if token != best:
            spelled = [(pieces[t] or b"<end>").decode("utf-8", "replace") for t in (best, token)]
            differs.append([step, *spelled, float(logits[best] - logits[token])])
        if token == end:
            break
        rest, step = rest[1 if isinstance(rest, list) else len(pieces[token]):], step + 1
        if rest or ended:
            llm.eval([token])
    return differs, step

for line in sys.stdin:
    case = json.loads(line)
    said = case["said"]
    print(json.dumps(judge(case["tokens"], said if isinstance(said, list) else said.encode(), case["ended"])), flush=True)
"""


@dataclass(frozen=True)
class Difference:
    """At token `step` the judge's likeliest is `theirs`, ahead of `ours` by `gap` (logits)."""

    step: int
    theirs: str
    ours: str
    gap: float


@dataclass(frozen=True)
class Verdict:
    """Where a text differs, and how many tokens it has."""

    differences: tuple[Difference, ...]
    tokens: int


# Tokens of the prompt, greedy reply, whether the model itself ended it. Of a text the judge must guess the tokens, the
# likeliest that fit; in words that the model made up it may guess wrong and then sees gaps that never were.
Case = tuple[tuple[int, ...], str | tuple[int, ...], bool]


async def judge(path: Path, cases: list[Case], n_ctx: int = 4096) -> list[Verdict]:
    """A verdict for each case."""
    lines = [json.dumps({"tokens": tokens, "said": said, "ended": ended}) + "\n" for tokens, said, ended in cases]
    command = [sys.executable, "-c", _JUDGE, str(path), str(n_ctx)]
    with anyio.fail_after(1800):
        done = await anyio.run_process(command, input="".join(lines).encode(), check=True)
    return [_verdict(json.loads(line)) for line in done.stdout.splitlines()]


def _verdict(answer: Any) -> Verdict:
    differences, tokens = answer
    return Verdict(tuple(Difference(*difference) for difference in differences), tokens)
