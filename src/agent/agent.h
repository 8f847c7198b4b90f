/* The node agent: takes attempts from a server over one outgoing WebSocket, has them supervised by
 * shims, and tells the server what became of them, what they printed and how the host is.
 *
 * It holds no truth of its own: jobs outlive it, and a new agent finds everything again in DATA.
 * Threads: agent_run() is the program's main loop. */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include "agent/folder.h"
#include "base/err.h"
#include "io/dial.h"

#include <stdbool.h>
#include <stdint.h>

struct agent_config {
    struct dial_to to;      /* the server; no address: the one of the kept credential */
    const char *server;     /* its address as it was given; NULL: not given */
    const char *token;      /* bearer credential; NULL: the kept one, or none by a unix socket */
    const char *token_file; /* where it was read from; jobs do not see it */
    enum isolation isolation;
    const char *job_user;   /* account that jobs run as; NULL: the node's choice (isolation.h) */
    bool profiling;         /* jobs may use the calls that profilers need */
    const char *join;       /* token to join with; NULL: not now */
    const char *page;       /* ADDRESS:PORT of the page; NULL: none */
    const char *page_token; /* that it demands; NULL: nothing, on loopback only */
    bool join_only;         /* ends when it has joined */
    const char *data;       /* folder; agent/ is made in it */
    const char *gpu;        /* gpu_source_open() spec */
    const char *name;       /* of the node; NULL: the host's name */
    const char *shim;       /* path of drover-shim */
    char **argv;            /* of this program: helpers are started with the same words */
    bool local;             /* belongs to a server on this host: ends with it when it is idle */
    bool once_idle_exit;    /* ends when all attempts it had are forgotten (tests) */
};
/* Returns OK when it was asked to end; ERR_CONFLICT when another agent has the folder;
 * ERR_UNAUTHENTICATED when it has no credential, or the node was removed from the fleet. */
int agent_run(const struct agent_config *config, struct err *e);

#endif
