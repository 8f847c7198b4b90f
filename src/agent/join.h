/* The node's own credential: made here, kept in DATA/agent/credential (mode 0600), known to the
 * server by its hash only. Threads: one. */
#ifndef AGENT_JOIN_H
#define AGENT_JOIN_H

#include "agent/agent.h"

enum { CREDENTIAL_SIZE = 64, NODE_ID_SIZE = 32 };
struct credential {
    char server[300]; /* where it joined */
    char node[NODE_ID_SIZE];
    char name[256];
    char secret[CREDENTIAL_SIZE]; /* "": none */
    char next[CREDENTIAL_SIZE];   /* takes its place once the server has said so; "": none */
    bool joined;                  /* the server has answered */
};
/* No file: OK and an empty one. dir: DATA/agent. */
int credential_load(int dir, struct credential *out, struct err *e);
int credential_save(int dir, const struct credential *c, struct err *e);
void credential_forget(int dir);
/* Joins as `name` and keeps what came of it. A join that was broken off is simply made again. */
int credential_join(int dir, const struct agent_config *config, const char *name,
                    struct credential *c, struct err *e);
/* Sets the server and the bearer credential: what the command line says, else what was kept when
 * this host joined; joins first when that is asked for. host: the node's name unless another is
 * given. own must live as long as c. */
int credential_use(int dir, struct agent_config *c, const char *host, struct credential *own,
                   struct err *e);
/* The same for a helper of a running agent: never joins. */
int credential_of_data(struct agent_config *c, struct credential *own, struct err *e);

#endif
