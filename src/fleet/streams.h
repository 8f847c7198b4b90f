/* Streams: bytes between a person and a running job, through the server, both ways.
 *
 *   1  a grant: who may open which stream to which attempt (made by a route that has checked it)
 *   2  the person's WebSocket names the grant; the node's agent is told over its link
 *   3  the agent's own outgoing WebSocket names the connection, and from then on the server hands
 *      messages from one to the other without looking into them (io/duplex.h is their language)
 *
 * Bounds: what waits for one side is at most STREAM_BACKLOG (the ends work with credit, so it is
 * never reached by honest ones); so many at once for one user and in all; nothing moves for
 * STREAM_IDLE_TIMEOUT: closed. A side that goes takes the other with it.
 *
 * Grants live in this process: after a restart they are asked for again.
 * Threads: any. */
#ifndef FLEET_STREAMS_H
#define FLEET_STREAMS_H

#include "fleet/fleet.h"

enum { STREAM_ID_SIZE = 33 };
struct stream_ask {
    int64_t user; /* may open it */
    int64_t node, attempt;
    bool many;           /* may be opened again and again (a forwarded port) */
    const char *request; /* JSON object for the agent */
};
/* ERR_LIMITED: too many at once. */
int fleet_stream_grant(struct fleet *f, const struct stream_ask *ask, char id[STREAM_ID_SIZE],
                       struct err *e);
/* The two sides' WebSockets; what they return goes on as the handler's result. */
int fleet_stream_user(struct fleet *f, struct request *q, const char *id, struct err *e);
int fleet_stream_agent(struct fleet *f, struct request *q, const char *id, struct err *e);
size_t fleet_streams_open(struct fleet *f);

#endif
