/* The HTTP/1.1 server: libmicrohttpd behind one small interface.
 *
 * A request goes through two calls of the embedder, both on an I/O thread and both quick:
 * `head` when the headers are there (may answer at once, else says how many body bytes are
 * welcome), then `serve` when the whole body is there. serve answers at once from memory or keeps
 * the request and answers later from any thread with http_respond(); meanwhile the connection is
 * suspended and costs no thread.
 *
 * Refused before `head`, with what `refuse` answers: Content-Length together with
 * Transfer-Encoding, two different Content-Lengths, a transfer coding other than chunked, NUL or
 * control bytes in a header value, a missing or repeated Host, a request target that is not
 * origin-form (RFC 9112, sections 3.2, 5.5, 6.3, 11.2), a head that leaves no room for an answer
 * (431). The connection closes. What libmicrohttpd refuses before it calls us has its own text: see
 * docs/http.md.
 *
 * A TLS listener's bytes are opened and closed in front of libmicrohttpd (http_front.c), so all
 * that is said here holds for it too; its answers carry Strict-Transport-Security.
 *
 * The server adds Date, gzip (when accepted, the type is text or JSON, and the body is over
 * 1 KiB) with Vary, strong ETag on 200 answers of GET when asked by .etag, 304 for
 * If-None-Match, and empties the body for HEAD.
 *
 * Threads: see each call. Memory per idle connection: an 8 KiB pool. A request's head has to fit
 * into it beside the answer's: above about 5 KiB (less with many headers) it is refused with 431.
 */
#ifndef IO_HTTP_H
#define IO_HTTP_H

#include "base/err.h"
#include "base/mem.h"

#include <stdint.h>
#include <sys/types.h>

struct http_server;
struct http_request;
struct http_answer;

struct http_listener {
    const char *host;      /* IP literal; NULL with unix_path */
    uint16_t port;         /* 0: the kernel chooses; see http_server_port() */
    const char *unix_path; /* a socket file, mode 0600 unless unix_mode says else */
    unsigned unix_mode;
    bool tls; /* speaks TLS, with http_config.tls */
};
struct http_tls {
    const char *cert, *key; /* PEM files; NULL: no listener may have .tls */
    const char *client_ca;  /* or NULL: clients are not asked for certificates */
};

struct http_app {
    void *ctx;
    /* Headers are there. Return the number of body bytes that are welcome (0: none), or -1 after
     * having answered. Without a body `serve` follows at once. */
    int64_t (*head)(void *ctx, struct http_request *q);
    /* The body is there, or it was larger than welcome (http_too_large). */
    void (*serve)(void *ctx, struct http_request *q);
    /* The request is gone (answered or the peer left); free what http_set_user() holds. */
    void (*gone)(void *ctx, struct http_request *q);
    /* The server refuses the request by itself: fill type, body (in the request's arena) and
     * headers; a->status is set. The method may be "", the path is what could be read. NULL: plain
     * text. */
    void (*refuse)(void *ctx, struct http_request *q, const char *text, struct http_answer *a);
};

struct http_config {
    struct http_listener listeners[6];
    size_t n_listeners;
    struct http_app app;
    int threads; /* I/O threads per TCP listener; 0: default (2) */
    struct http_tls tls;
    int max_connections; /* over all listeners; 0: default (20000) */
    int idle_timeout_s;  /* of a connection between requests; 0: default (75) */
    int head_timeout_s;  /* to send all headers (slow clients); 0: default (15) */
    int body_timeout_s;  /* without a body byte; 0: default (30) */
};

int http_server_start(const struct http_config *config, struct http_server **out, struct err *e);
uint16_t http_server_port(const struct http_server *s, size_t listener);
/* Stops accepting, answers what is suspended with 503, ends streams, joins threads. */
void http_server_stop(struct http_server *s);
/* Reads the files of http_config.tls again when they have changed, or in any case. Connections that
 * are open keep what they began with; new ones get the new files, or, when those are no good, still
 * the old ones: then the fault is told, here and by http_tls_fault() until it is mended. */
int http_tls_reload(struct http_server *s, bool in_any_case, struct err *e);
/* "": none. *expires_us: of the certificate that is shown; 0: there is no TLS. */
void http_tls_fault(struct http_server *s, char to[ERR_TEXT_MAX], int64_t *expires_us);
struct http_server_stats {
    uint64_t connections, accepted, requests, refused;
};
void http_server_stats(const struct http_server *s, struct http_server_stats *out);

/* ---- reading a request (any thread that holds it; valid until answered) ---- */

const char *http_method(const struct http_request *q); /* "HEAD" is told as "GET" */
bool http_is_head(const struct http_request *q);
const char *http_path(const struct http_request *q);   /* percent-decoded, no query */
const char *http_target(const struct http_request *q); /* as sent */
const char *http_query(const struct http_request *q);  /* raw, "" when there is none */
const char *http_header(const struct http_request *q, const char *name); /* NULL: not sent */
/* The last line of that name: the one the nearest proxy wrote, when each adds its own. */
const char *http_header_last(const struct http_request *q, const char *name);
const char *http_body(const struct http_request *q, size_t *n); /* NUL-terminated */
bool http_too_large(const struct http_request *q);
const char *http_peer(const struct http_request *q); /* "127.0.0.1", "::1", "unix" */
bool http_peer_unix(const struct http_request *q, uid_t *uid, pid_t *pid); /* peer credentials */
bool http_is_tls(const struct http_request *q);
/* The client's certificate, signed by the authority of http_config.tls; NULL: it showed none. */
struct http_peer_cert {
    char subject[256];   /* RFC 4514: "CN=n-1,O=example" */
    char name[128];      /* its common name, or "" */
    char sha256[64 + 1]; /* of the whole certificate, hex */
};
const struct http_peer_cert *http_peer_cert(const struct http_request *q);
size_t http_listener_index(const struct http_request *q);
struct arena *http_arena(struct http_request *q); /* goes with the request */
void http_set_user(struct http_request *q, void *user);
void *http_user(const struct http_request *q);

/* ---- answering (any thread, exactly once) ---- */

struct http_header_pair {
    const char *name, *value;
};
enum { HTTP_HEADERS_MAX = 24 };
struct http_answer {
    int status;
    const char *type;                                  /* Content-Type; NULL: no body */
    struct http_header_pair headers[HTTP_HEADERS_MAX]; /* copied */
    size_t n_headers;
    const void *body; /* copied unless body_static */
    size_t n;
    bool body_static; /* lives as long as the server */
    bool etag;        /* compute and compare a strong ETag of the body */
    bool close;       /* close the connection afterwards */
};
void http_respond(struct http_request *q, const struct http_answer *a);

/* The strong ETag of a body as .etag makes it for its uncompressed form. */
enum { HTTP_ETAG_SIZE = 2 + 16 + 3 + 1 };
void http_etag(const void *body, size_t n, char to[HTTP_ETAG_SIZE]);
/* Whether an If-Match list names it, in either form; weak tags never match (RFC 9110, 13.1.1). */
bool http_etag_match(const char *list, const char *etag);

/* ---- an endless answer: server-sent events, following a log (any thread) ---- */

struct http_stream;
struct http_stream_ops {
    void (*closed)(void *ctx); /* once, on a server thread: the peer left or stop() */
};
/* Answers with headers and keeps the body open. Never NULL; writing to a dead one is harmless. */
struct http_stream *http_respond_stream(struct http_request *q, const struct http_answer *a,
                                        const struct http_stream_ops *ops, void *ctx);
/* False: over backlog_max (1 MiB) waiting, or gone; the stream is then being closed. */
bool http_stream_write(struct http_stream *s, const void *p, size_t n);
size_t http_stream_backlog(const struct http_stream *s);
/* Flushes and ends. The handle is gone after `closed` was called. */
void http_stream_end(struct http_stream *s);

#endif
