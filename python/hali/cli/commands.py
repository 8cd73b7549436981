"""What can be typed in a chat besides prompts: `/set temperature 0.2` and its like."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from hali.cli import transcript
from hali.cli.attachments import with_image
from hali.cli.chat import ChatClient, Reply
from hali.model.errors import UsageError

Say = Callable[[str], None]
# Numbers that /set takes: how to read one, and its limits (those of the API).
SETTABLE: dict[str, tuple[type[int] | type[float], float, float]] = {
    "temperature": (float, 0, 2),
    "top_p": (float, 0, 1),
    "top_k": (int, 0, 2**31 - 1),
    "min_p": (float, 0, 1),
    "repeat_penalty": (float, 0.01, 10),
    "presence_penalty": (float, -2, 2),
    "frequency_penalty": (float, -2, 2),
    "max_tokens": (int, 1, 2**31 - 1),
    "seed": (int, -(2**63), 2**63 - 1),
}
_COMMAND = re.compile(r"/([a-z?]+)(?:\s+(.*))?", re.DOTALL)  # `/etc/passwd` in a question is no command


class Commands:
    """Carries out commands on a chat; `say` shows what they answer. `reply` is one that a command asked for."""

    def __init__(self, chat: ChatClient, say: Say) -> None:
        self._chat, self._say = chat, say
        self.images: tuple[str, ...] = ()  # for the next prompt
        self.last: Reply | None = None
        self.reply: Reply | None = None
        self.over = False

    def run(self, line: str) -> bool:
        """False when `line` is a prompt; a HaliError for a command that cannot be carried out."""
        match = _COMMAND.fullmatch(line)
        if match is None:
            return False
        command = TABLE.get(match[1])
        if command is None:
            raise UsageError(f"no command /{match[1]}", hint="/help lists them")
        command.act(self, (match[2] or "").strip())
        return True

    def _clear(self, _: str) -> None:
        self._chat.clear()

    def _system(self, text: str) -> None:
        if text:
            self._chat.system = None if text == "none" else text
        self._say(f"system: {self._chat.system or 'none'}")

    def _set(self, text: str) -> None:
        name, _, value = text.partition(" ")
        if name:
            self._change(name, value.strip())
        for each in [name] if name else SETTABLE:
            self._say(f"{each}: {self._chat.options.get(each, 'default')}")

    def _change(self, name: str, value: str) -> None:
        if name not in SETTABLE:
            raise UsageError(f"there is no {name!r} to set", hint=f"there are {', '.join(SETTABLE)}")
        if value == "default":
            self._chat.options.pop(name, None)
        elif value:
            self._chat.options[name] = number(name, value)

    def _image(self, file: str) -> None:
        self.images = with_image(self.images, file)
        self._say("It goes with the next prompt.")

    def _retry(self, _: str) -> None:
        self.reply = self._chat.retry()
        if self.reply is None:
            raise UsageError("nothing was asked yet")

    def _save(self, file: str) -> None:
        transcript.save(self._chat, file)
        self._say(f"Saved as {file}.")

    def _load(self, file: str) -> None:
        transcript.load(self._chat, file)
        self._say(f"{len(self._chat.history) // 2} turns.")

    def _stats(self, _: str) -> None:
        if self.last is None:
            raise UsageError("there was no reply yet")
        for name, value in self.last.timing().items():
            self._say(f"{name}: {'unknown' if value is None else round(value, 3)}")

    def _help(self, _: str) -> None:
        width = max(len(command.shown) for command in HELP)
        self._say("\n".join(f"  {command.shown:<{width}}  {command.about}" for command in HELP))

    def _bye(self, _: str) -> None:
        self.over = True


class Command(NamedTuple):
    """One of them."""

    shown: str
    about: str
    act: Callable[[Commands, str], None]


TABLE = {
    "clear": Command("/clear", "forget the conversation", Commands._clear),
    "system": Command("/system TEXT", "what the model is told first; `none` takes it away", Commands._system),
    "set": Command("/set NAME NUMBER", f"{', '.join(list(SETTABLE)[:4])}, …; `default` undoes it", Commands._set),
    "image": Command("/image FILE", "an image for the next prompt", Commands._image),
    "retry": Command("/retry", "another reply to the last prompt", Commands._retry),
    "save": Command("/save FILE", "keep the conversation", Commands._save),
    "load": Command("/load FILE", "go on with one that was kept", Commands._load),
    "stats": Command("/stats", "tokens and speed of the last reply", Commands._stats),
    "help": Command("/help", "this list", Commands._help),
    "bye": Command("/bye", "end it (Ctrl-D too)", Commands._bye),
}
HELP = (
    *TABLE.values(),
    Command('"""', "begins and ends a prompt of several lines", Commands._help),
    Command("Ctrl-C", "stops a reply", Commands._help),
)
TABLE |= {"?": TABLE["help"], "exit": TABLE["bye"], "quit": TABLE["bye"]}


def number(name: str, text: str) -> Any:
    """The value of an option; UsageError when it is no number, or outside the limits."""
    kind, low, high = SETTABLE[name]
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise UsageError(f"{name} is a{'n integer' if kind is int else ' number'} from {low:g} to {high:g}")
    return value
