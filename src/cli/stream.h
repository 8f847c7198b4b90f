/* Streams into running jobs as the verbs use them: asked for by a call, then one WebSocket each.
 * Threads: one for a session; sessions are independent of each other. */
#ifndef CLI_STREAM_H
#define CLI_STREAM_H

#include "cli/context.h"
#include "io/duplex.h"

struct session {
    struct ws_client *ws;
    struct duplex d;
    bool over;        /* the other end has said its last word */
    int exit_code;    /* of what ran: 128 + n for signal n */
    struct err error; /* kind OK: none was told */
};
enum { STREAM_NAME_SIZE = 65 };

/* body: JSON of what is wanted. stream: its name, for session_open(). */
int stream_ask(struct cli *c, struct client *client, const char *job, const char *body,
               char stream[STREAM_NAME_SIZE], struct err *e);
int session_open(const struct client *client, const char *stream, struct session *s, struct err *e);
/* Waits until the other end is there; an error it told is given back. The channels are set before:
 * bytes may come with the first word. */
int session_wait(struct session *s, struct err *e);
void session_close(struct session *s);

#endif
