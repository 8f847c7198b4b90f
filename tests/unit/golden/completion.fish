# fish completion for drover:  drover completion fish | source
complete -c drover -f
complete -c drover -n 'true' -l json -d 'print JSON instead of text'
complete -c drover -n 'true' -l server -r -d 'http://host:port or unix:/path, instead of DROVER_URL'
complete -c drover -n 'true' -l help -s h -d 'show this help'
complete -c drover -n __fish_use_subcommand -a run -d 'run something'
complete -c drover -n '__fish_seen_subcommand_from run' -l gpus -s g -r -d 'GPUs of the job'
complete -c drover -n '__fish_seen_subcommand_from run' -l time -s t -r -d 'time limit'
complete -c drover -n '__fish_seen_subcommand_from run' -l memory -r -d 'memory [of one node]: a limit'
complete -c drover -n '__fish_seen_subcommand_from run' -l level -xa 'low high' -d 'how much it'\''s worth'
complete -c drover -n '__fish_seen_subcommand_from run' -l env -s e -r -d 'variable'
complete -c drover -n '__fish_seen_subcommand_from run' -l follow -s f -d 'stay'
complete -c drover -n '__fish_seen_subcommand_from run' -F
complete -c drover -n __fish_use_subcommand -a show -d 'show it'
complete -c drover -n '__fish_seen_subcommand_from show' -a '(drover ps -q --all 2>/dev/null)'
complete -c drover -n __fish_use_subcommand -a user -d 'add one'
complete -c drover -n '__fish_seen_subcommand_from user; and test (count (commandline -opc)) -eq 2' -a add -d 'add one'
complete -c drover -n '__fish_seen_subcommand_from user; and __fish_seen_subcommand_from add' -a 'a b'
complete -c drover -n '__fish_seen_subcommand_from user; and test (count (commandline -opc)) -eq 2' -a list -d 'list them'
