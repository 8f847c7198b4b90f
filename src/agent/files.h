/* Code and results of attempts, on the node. An attempt with either has a working folder of its
 * own, DATA/agent/work/<attempt>. Its code is fetched into it before the launch, its results are
 * sent from it after the end and before the end is told; a helper process does both
 * (agent/stream.h). What is to be done stands in the attempt's folder ("files"), so a new agent
 * goes on with it. Threads: one. */
#ifndef AGENT_FILES_H
#define AGENT_FILES_H

#include "agent/node.h"

/* Its working folder, when a start message asks for files; "" otherwise. to has room for 4096. */
const char *files_work(const struct agent *g, const struct jv *attempt, int64_t id, char *to);
/* Makes the folder and writes down what is to be done. 0 or an errno. */
int files_begin(struct agent *g, struct attempt *a, const struct jv *attempt);
void files_recover(struct agent *g, struct attempt *a);
void files_step(struct agent *g, int64_t now);
/* A helper of this attempt has ended. */
void files_ended(struct agent *g, struct attempt *a, int status);
void files_remove(const struct agent *g, int64_t id);

/* In the helper. Gives the exit status. */
int files_helper(const struct agent_config *config, const struct jv *order);

#endif
