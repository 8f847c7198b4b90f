/* Connects to the server on a thread of its own, so that a name that is not resolved or a network
 * that swallows everything never stops the agent's loop.
 *
 * Threads: the loop's; the thread inside touches only what is its own. */
#ifndef AGENT_DIALER_H
#define AGENT_DIALER_H

#include "agent/agent.h"
#include "io/ws.h"

struct dialer;
int dialer_start(const struct agent_config *config, const char *path, const char *protocol,
                 struct dialer **out, struct err *e);
int dialer_fd(const struct dialer *d); /* readable when it is done */
/* After that, once: OK and the connection, or why not. The dialer is gone then. */
int dialer_take(struct dialer *d, struct ws_client **out, struct err *e);
void dialer_drop(struct dialer *d); /* does not wait; NULL is fine */

#endif
