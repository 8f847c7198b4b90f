# bash completion for drover:  source <(drover completion bash)
_drover() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then
            COMPREPLY=($(compgen -c -f -- "$cur"))
            return
        fi
    done
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W 'run show user' -- "$cur"))
        return
    fi
    case "${COMP_WORDS[1]} ${COMP_WORDS[2]}" in
    "run"\ *)
        case $prev in
        --gpus) return ;;
        --time) return ;;
        --memory) return ;;
        --level) words='low high' ;;
        --env) return ;;
        --server) return ;;
        *) words=" --gpus --time --memory --level --env --follow --json --server --help" ;;
        esac
        [[ $cur == -* || $prev == --* ]] || COMPREPLY=($(compgen -f -- "$cur"))
        ;;
    "show"\ *)
        case $prev in
        --server) return ;;
        *) words="$(drover ps -q --all 2>/dev/null) --json --server --help" ;;
        esac
        ;;
    "user add")
        case $prev in
        --server) return ;;
        *) words="a b --json --server --help" ;;
        esac
        ;;
    "user list")
        case $prev in
        --server) return ;;
        *) words=" --json --server --help" ;;
        esac
        ;;
    "user "*) words='add list' ;;
    esac
    COMPREPLY+=($(compgen -W "$words" -- "$cur"))
}
complete -F _drover drover
