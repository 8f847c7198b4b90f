/* The command line: `drover VERB …`. Speaks the native API of a server and nothing else; `serve`
 * comes in through a hook, so that this room needs no other part of the house.
 *
 * What leaves it: facts on standard output (text for people or, with --json, the server's own
 * JSON), everything about the way there on standard error, and the exit code: 0 done, 1 the thing
 * asked for failed, 2 wrong usage, 3 the server cannot be reached, 4 not allowed, 130 stopped
 * following by Ctrl-C; `submit --wait` and `wait ID` give the job's own.
 *
 * Threads: the caller's only.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "cli/verb.h"

/* hooks: verbs that live above this room, NULL-terminated; may be NULL. Returns the exit code. */
int cli_main(int argc, char **argv, const struct verb *const *hooks);

/* This room's own verbs, NULL-terminated: what help and completion show besides the hooks. */
extern const struct verb *const cli_verbs[];
/* Chinese texts of this room, for err_translate_with(); cli_main() registers them itself. */
extern const struct err_text cli_texts_zh[];

#endif
