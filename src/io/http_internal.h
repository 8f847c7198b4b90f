/* Shared by the files of the HTTP server only; libmicrohttpd's own header stays in the .c files.
 *
 * Who owns what: a connection belongs to the library's thread that accepted it. A request is
 * held twice at most, by its connection and by the embedder from `serve` until it has answered,
 * and lives until both have let go; so a request can be read safely even when stop() has
 * answered it with 503 behind the embedder's back.
 */
#ifndef IO_HTTP_INTERNAL_H
#define IO_HTTP_INTERNAL_H

#include "io/http.h"
#include "io/http_front.h"
#include "io/loop.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

struct MHD_Connection;
struct MHD_Daemon;
struct MHD_Response;

enum {
    HTTP_POOL_BYTES = 8 << 10,   /* a connection's memory; bounds a request's head */
    HTTP_ANSWER_HEAD_MAX = 2560, /* of it, kept free for the answer's head */
    HTTP_LOCAL_MAX = 128,        /* connections over the limit for the unix socket */
    HTTP_DRAIN_MAX = 8 << 20,    /* unwelcome body bytes read before the door is shut */
    HTTP_STREAM_BACKLOG_MAX = 1 << 20,
    HTTP_GZIP_MIN = 1 << 10,
    HTTP_OVER_MAX = 64, /* connections over the limit that still get a 503 */
};

enum http_phase { PHASE_IDLE, PHASE_HEAD, PHASE_BODY, PHASE_BUSY };

struct http_peer_id {
    char text[INET6_ADDRSTRLEN];
    bool is_unix;
    uid_t uid;
    pid_t pid;
};

struct http_listening {
    struct http_server *server;
    struct MHD_Daemon *daemon;
    size_t index;
    uint16_t port;
    char *unix_path; /* removed at stop */
    bool tls;
    struct http_front *front; /* TLS; NULL: the daemon listens itself */
};

struct http_conn {
    struct http_listening *listening;
    int fd;
    struct http_peer_id peer;
    struct http_front_peer *front; /* behind TLS; counted */
    atomic_int phase;
    _Atomic int64_t since_us; /* of the phase; of the last body byte in PHASE_BODY */
    /* of the sweeper, under the server's lock */
    int64_t mark_since_us, head_since_us;
    uint64_t mark_bytes;
    struct http_conn *prev, *next;
};

struct http_server {
    struct http_app app;
    struct http_listening listening[6];
    size_t n_listening;
    int max_connections;
    int64_t head_timeout_us, body_timeout_us;

    atomic_int refs;
    atomic_bool stopping;
    atomic_int n_conns, n_active; /* connections; requests begun and not completed */
    atomic_uint_fast64_t accepted, requests, refused;

    pthread_mutex_t lock; /* conns, sweep_at, waiting */
    struct http_conn *conns, *sweep_at;
    struct http_request *waiting;
    struct loop *loop; /* of endless answers */

    struct tls_files tls_files;
    pthread_mutex_t tls_lock; /* the four below */
    struct tls_keys *tls_keys;
    char tls_stamp[160]; /* of the files that were read last, good or not */
    char tls_fault[ERR_TEXT_MAX];
    struct vec handed; /* by fd: struct http_front_peer of connections not yet begun; under lock */

    pthread_t sweeper;
    pthread_mutex_t sweep_lock;
    pthread_cond_t sweep_end;
    bool sweep_ending;

    pthread_mutex_t packed_lock;
    struct map packed; /* body_static answers, compressed once */
    size_t packed_bytes;
};

enum http_state { STATE_HANDLER, STATE_WAITING, STATE_ANSWERED, STATE_STOPPED };

struct http_request {
    struct http_server *server;
    struct http_conn *conn; /* only on the connection's thread */
    struct MHD_Connection *mhd;
    atomic_int refs;
    atomic_int state;
    struct arena arena;

    const char *method, *path, *target, *query;
    struct http_header_pair *fields;
    size_t n_fields;
    struct http_peer_id peer;
    struct http_front_peer *front; /* counted */
    size_t listener;
    bool is_head, http11;
    struct buf body;
    bool too_large;
    void *user;

    /* the connection's thread only */
    const char *raw_target;
    size_t raw_target_n;
    bool begun, told, served, draining, wants_100;
    int64_t welcome, drained;

    /* written by the one who answers, before state becomes STATE_ANSWERED */
    struct MHD_Response *response;
    int status;
    struct loop_conn *takeover; /* instead: the loop gets the socket */

    struct http_request *waiting_prev, *waiting_next; /* under the server's lock */
    bool listed;
};

/* http.c */
void http_server_unref(struct http_server *s);
/* Whether more connections are open than max_connections + slack. */
bool http_server_over(const struct http_server *s, int slack);
int http_listening_slack(const struct http_listening *l);

/* http_request.c. The answer of a request is set: hand it to the connection, let the request go. */
void http_request_answered(struct http_request *q);
/* Answers what waits with 503; new waits are refused from now on. */
void http_requests_stop(struct http_server *s);

/* http_answer.c */
struct MHD_Response *http_answer_build(struct http_request *q, const struct http_answer *a,
                                       int *status);
void http_packed_free(struct http_server *s);
/* "HTTP/1.1 200 OK", Date and the answer's own headers, without the empty line: for answers
 * that the loop sends. */
void http_head_write(struct buf *to, const struct http_request *q, const struct http_answer *a);

/* http_tls.c */
int http_tls_open(struct http_server *s, const struct http_tls *files, struct err *e);
void http_tls_close(struct http_server *s);
/* Puts the listener behind a front; its daemon is there and listens nowhere. */
int http_tls_listen(struct http_listening *l, int fd, int handshake_s, struct err *e);
/* Who is behind a descriptor that the front handed in: once. */
struct http_front_peer *http_tls_peer_take(struct http_server *s, int fd);

#endif
