/* Streams into jobs, on the node: one helper process each (this program with --stream), which dials
 * the server by itself and enters the job, so that the agent's loop never waits for one and a fault
 * in one takes nothing with it. A helper outlives an agent that is restarted.
 * Threads: one. */
#ifndef AGENT_STREAM_H
#define AGENT_STREAM_H

#include "agent/message.h"
#include "agent/node.h"

/* Starts the helper that a stream_open message asks for; a: NULL when there is no such attempt. */
void stream_start(struct agent *g, const struct attempt *a, const struct message *m);
/* Starts a helper with this order. -1: it cannot be started now. */
pid_t stream_spawn(struct agent *g, const struct buf *order);
/* A child of the agent has ended: true when it was a helper. */
bool stream_ended(struct agent *g, pid_t pid);

/* The helper: takes its order from standard input. Gives the exit status. */
int stream_main(const struct agent_config *config);

#endif
