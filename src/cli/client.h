/* The server as the command line sees it: where it is, with which credential, one call at a time,
 * and one stream. The only file that knows libcurl is client.c; it is loaded with the first
 * call, so that `drover version` and help stay quick.
 *
 * Threads: one. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "base/err.h"
#include "base/mem.h"
#include "io/json_in.h"

#include <stdint.h>
#include <stdio.h>

/* ---- where (server.c) ---- */

struct server {
    char url[512];       /* "http://127.0.0.1:8080", or "unix:/path" */
    char unix_path[512]; /* "" for http */
    bool by_default;     /* nobody named it */
    char tried[1024];    /* by_default: the sockets that were looked for, one a line */
};
/* named: --server, may be NULL. */
int server_find(const char *named, struct server *out, struct err *e);
/* The socket of a server on this machine or a loopback address. */
bool server_is_here(const struct server *s);

/* ---- who (credentials.c) ---- */

struct credential {
    char access[4096], refresh[1024], email[320];
    int64_t expires_us;
};
/* OK with access "" when there is none for that server. */
int credential_load(const char *url, struct credential *out, struct err *e);
int credential_save(const char *url, const struct credential *c, struct err *e);
int credential_delete(const char *url, struct err *e);
/* Holds the file against other processes while a token is rotated; give back by close(2). */
int credential_lock(int *fd, struct err *e);
/* Reads {access_token, refresh_token, expires_in, user} of a sign-in. */
bool credential_of_answer(const struct jv *answer, struct credential *out);

/* ---- calls (client.c) ---- */

struct client;
/* Makes no connection yet. */
int client_open(const char *named_server, struct client **out, struct err *e);
void client_close(struct client *c);
static inline void auto_client(struct client **c)
{
    client_close(*c);
}
const struct server *client_server(const struct client *c);

struct call {
    const char *method;          /* NULL: GET, or POST with a body */
    const char *path;            /* "/v1/jobs?limit=5" */
    const char *body;            /* JSON; NULL: none */
    const char *idempotency_key; /* a POST with one may be repeated */
    const char *bearer;          /* instead of the stored credential */
    int timeout_s;               /* 0: default (30) */
    bool anonymous;              /* send no credential */
};
struct reply {
    int status;
    struct jv *json; /* NULL when the body is empty or not JSON */
    struct buf body;
    int64_t date_s; /* the server's clock, UTC; 0: not told */
};
void reply_fini(struct reply *r);
static inline void auto_reply(struct reply *r)
{
    reply_fini(r);
}
/* Repeats what may be repeated when the connection fails or the server asks to wait. An error
 * status fails with the server's text; its hint and broken fields are kept for client_explain().
 *   ERR_UNAVAILABLE      the server cannot be reached
 *   ERR_UNAUTHENTICATED  no or a bad credential */
int client_call(struct client *c, const struct call *q, struct reply *out, struct err *e);
/* Writes the body of a GET to `to` as it comes, however long it is. Not repeated; an error status
 * fails like client_call(), and then nothing was written. */
int client_download(struct client *c, const char *path, FILE *to, struct err *e);
/* Prints to standard error what is known beyond the error's own line: fields, hint, way out. */
void client_explain(const struct client *c, const struct err *e);
/* The error's text, then client_explain(); gives the exit code. c may be NULL. */
int client_fail(const struct client *c, const struct err *e);
/* Percent-encodes one part of a path or query. */
const char *url_part(struct arena *a, const char *s);

enum stream_end { STREAM_DONE, STREAM_CUT, STREAM_INTERRUPTED };
/* Server-sent events. fn returns false to stop (STREAM_DONE). CUT: the connection ended otherwise.
 * Ctrl-C during the call gives INTERRUPTED instead of ending the process. An error is an answer
 * that is no stream. */
typedef bool stream_fn(void *ctx, const char *event, const char *id, const struct jv *data);
int client_stream(struct client *c, const char *path, const char *last_id, stream_fn *fn, void *ctx,
                  enum stream_end *end, struct err *e);
/* A WebSocket with the credential of the last call. Threads: any. */
struct ws_client;
int client_socket(const struct client *c, const char *path, const char *protocol,
                  size_t message_max, struct ws_client **out, struct err *e);
/* Sleeps; true when Ctrl-C came (only between client_stream calls of a follower). */
bool client_nap(struct client *c, int ms);
/* Ctrl-C is noticed by client_stream and client_nap from here on instead of ending the process. */
void client_catch_interrupt(struct client *c);

#endif
