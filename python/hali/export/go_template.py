"""A chat format as the Go template that Ollama renders: text/template over `.Messages` (role, content) and `.System`."""

from __future__ import annotations

from hali.export.chat_formats import Around, ChatFormat

# Ollama's own default for a model without a template: the text as typed.
PLAIN = "{{ .Prompt }}"


def go_template(known: ChatFormat) -> str:
    """An answer that was begun by the caller (a last message of the assistant) stays open, so that the model goes on with it."""
    system = "" if known.folded else f'{{{{ if eq .Role "system" }}}}{_plain(known.system)}{{{{ else }}}}'
    closing = "" if known.folded else "{{ end }}"
    before, after = known.assistant
    return "".join(
        (
            "{{ $system := .System }}" if known.folded else "",
            "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}",
            system,
            f'{{{{ if eq .Role "user" }}}}{_user(known)}{{{{ end }}}}',
            f'{{{{ if eq .Role "assistant" }}}}{before}{{{{ .Content }}}}{{{{ if not $last }}}}{after}{{{{ end }}}}{{{{ end }}}}',
            closing,
            f'{{{{ if and $last (ne .Role "assistant") }}}}{known.opening}{{{{ end }}}}',
            "{{ end }}",
        )
    )


def _plain(around: Around) -> str:
    return f"{around[0]}{{{{ .Content }}}}{around[1]}"


def _user(known: ChatFormat) -> str:
    before, after = known.user
    if not known.folded:
        return _plain(known.user)
    opening, closing = known.system
    folded = f'{{{{ if $system }}}}{opening}{{{{ $system }}}}{closing}{{{{ $system = "" }}}}{{{{ end }}}}'
    return f"{before}{folded}{{{{ .Content }}}}{after}"
