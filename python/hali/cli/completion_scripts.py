"""The scripts that make a shell ask `hali` what may stand at the cursor."""

from __future__ import annotations

# Bash takes words apart at colons (COMP_WORDBREAKS), and model ids are full of them: the line is taken apart here, and what
# stands before the last colon is left out of the answers, because Bash puts them behind it.
_BASH = r"""# hali completion for bash
_hali() {
    local line="${COMP_LINE:0:COMP_POINT}" words last
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    last="${words[${#words[@]}-1]}"
    mapfile -t COMPREPLY < <("${words[0]}" __complete bash "${words[@]:1}" 2>/dev/null)
    if [[ ${COMPREPLY[0]} == ":files" ]]; then
        COMPREPLY=()
        compopt -o default
    elif [[ $last == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${last%"${last##*:}"}"}")
    fi
}
complete -F _hali hali
"""

_ZSH = r"""#compdef hali
_hali() {
    local -a found
    found=("${(@f)$("${words[1]}" __complete zsh "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    if [[ $found[1] == ":files" ]]; then
        _files
    elif [[ -n $found[1] ]]; then
        _describe hali found
    fi
}
if [[ $funcstack[1] == _hali ]]; then
    _hali "$@"
else
    compdef _hali hali
fi
"""

_FISH = r"""# hali completion for fish
function __hali_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l found ($before[1] __complete fish $before[2..-1] "$current" 2>/dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path "$current"
    else
        printf '%s\n' $found
    end
end
complete -c hali -f -a '(__hali_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
