#compdef drover
# zsh completion for drover:  source <(drover completion zsh)
_drover_jobs() { compadd -- $(drover ps -q --all 2>/dev/null) }
_drover() {
    local -a verbs
    verbs=(
        'run:run something'
        'show:show it'
        'user:add one')
    if ((CURRENT == 2)); then
        _describe verb verbs
        return
    fi
    case "$words[2] $words[3]" in
    "run"\ *)
        shift 1 words
        ((CURRENT -= 1))
        _arguments -s \
            '--gpus=[GPUs of the job]:N:' \
            '--time=[time limit]:TIME:' \
            '--memory=[memory (of one node): a limit]:SIZE:' \
            '--level=[how much it'\''s worth]:L:(low high)' \
            '*--env=[variable]:K=V:' \
            '--follow[stay]' \
            '--json[print JSON instead of text]' \
            '--server=[http://host:port or unix:/path, instead of DROVER_URL]:URL:' \
            '--help[show this help]' \
            '*:FILE:_files'
        ;;
    "show"\ *)
        shift 1 words
        ((CURRENT -= 1))
        _arguments -s \
            '--json[print JSON instead of text]' \
            '--server=[http://host:port or unix:/path, instead of DROVER_URL]:URL:' \
            '--help[show this help]' \
            '*:ID:_drover_jobs'
        ;;
    "user add")
        shift 2 words
        ((CURRENT -= 2))
        _arguments -s \
            '--json[print JSON instead of text]' \
            '--server=[http://host:port or unix:/path, instead of DROVER_URL]:URL:' \
            '--help[show this help]' \
            '1:WHAT:(a b)'
        ;;
    "user list")
        shift 2 words
        ((CURRENT -= 2))
        _arguments -s \
            '--json[print JSON instead of text]' \
            '--server=[http://host:port or unix:/path, instead of DROVER_URL]:URL:' \
            '--help[show this help]'
        ;;
    "user "*) compadd -- add list ;;
    esac
}
compdef _drover drover
