"""Completion of commands, options and their choices by a shell, out of the index; nothing is run for it."""

from typing import Any, Literal

Shell = Literal["bash", "zsh", "fish"]

_BASH = """\
_ikem_fast() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= words=
    case " ${COMP_WORDS[*]:1:COMP_CWORD-1} " in
@CASES@    esac
    case "$command $before" in
@CHOICES@    esac
    if [[ -z $words ]]; then
        case $command in
@OPTIONS@        *) words="@WORDS@" ;;
        esac
    fi
    if [[ $word == -* || -z $command || $words != *--* ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
    fi
}
complete -o default -F _ikem_fast ikem-fast
"""


def completion_script(shell: str, index: dict[str, dict[str, Any]]) -> str:
    """Write the script that teaches a shell the commands of an index.

    Example:
        completion_script("bash", read_index())  # ikem-fast completion bash >> ~/.bashrc
    """
    if shell == "fish":
        return _fish(index)
    script = _bash(index)
    return f"autoload -U +X bashcompinit && bashcompinit\n{script}" if shell == "zsh" else script


def _bash(index):
    names = sorted(index, key=lambda name: -len(name.split()))  # two words ahead of one
    groups = sorted({name.split()[0] for name in index if " " in name} - set(index))
    first = sorted({name.split()[0] for name in index})
    cases = [f'    " {name} "*) command="{name}" ;;\n' for name in names]
    choices = [
        f'    "{name} {option}") words="{" ".join(values)}" ;;\n'
        for name in names
        for option, values in index[name]["options"].items()
        if values
    ]
    options = [f'        "{name}") words="{" ".join(index[name]["options"])} --help" ;;\n' for name in names]
    second = {
        group: " ".join(name.split()[1] for name in index if name.startswith(f"{group} ")) for group in groups
    }
    within = [f'    " {group} "*) words="{words}" ;;\n' for group, words in second.items()]
    parts = {"CASES": cases + within, "CHOICES": choices, "OPTIONS": options, "WORDS": [" ".join(first)]}
    script = _BASH
    for name, lines in parts.items():
        script = script.replace(f"@{name}@", "".join(lines))
    return script


def _fish(index):
    lines = ["complete -c ikem-fast -f"]
    for name, entry in index.items():
        *above, word = name.split()
        place = f"__fish_seen_subcommand_from {above[0]}" if above else "__fish_use_subcommand"
        lines.append(f"complete -c ikem-fast -n '{place}' -a {word} -d {_quoted(entry['summary'])}")
        if above:
            lines.append(f"complete -c ikem-fast -n __fish_use_subcommand -a {above[0]}")
        seen = " ; and ".join(f"__fish_seen_subcommand_from {part}" for part in name.split())
        for option, values in entry["options"].items():
            given = f" -x -a '{' '.join(values)}'" if values else " -r -F"
            lines.append(f"complete -c ikem-fast -n '{seen}' -l {option.removeprefix('--')}{given}")
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
