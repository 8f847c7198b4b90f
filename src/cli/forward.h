/* A port of this machine that leads into a job; for port-forward and notebook. Threads: one. */
#ifndef CLI_FORWARD_H
#define CLI_FORWARD_H

#include "cli/stream.h"

struct forward;
/* Listens on 127.0.0.1:local (0: any free port). job lives as long as the program. NULL: e. */
struct forward *forward_open(struct cli *c, struct client *client, const char *job, uint16_t local,
                             uint16_t port, struct err *e);
uint16_t forward_local(const struct forward *f);
/* Takes connections for a while. False: Ctrl-C came. */
bool forward_step(struct forward *const *f, size_t n, int timeout_ms);

#endif
