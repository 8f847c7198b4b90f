/* The server's certificates, and the hand-over of connections from the TLS front.
 *
 * What must stay true: new files are taken whole or not at all; a fault stays told until the files
 * are good again. */
#include "io/http_internal.h"

#include "base/str.h"
#include "base/world.h"

#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- files ---- */

/* Changes when one of the files was written or replaced. */
static void stamp_of(const struct tls_files *f, char to[160])
{
    const char *files[] = {f->cert, f->key, f->client_ca};
    size_t used = 0;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct stat st = {0};
        if (files[i] != NULL)
            (void)!stat(files[i], &st);
        used += (size_t)snprintf(to + used, 160 - used, "%llx.%llx.%lx.%lx ",
                                 (unsigned long long)st.st_ino, (unsigned long long)st.st_size,
                                 (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        used = used < 159 ? used : 159;
    }
}

int http_tls_open(struct http_server *s, const struct http_tls *files, struct err *e)
{
    if (files->cert == NULL)
        return OK;
    s->tls_files = (struct tls_files){.cert = mem_strdup(files->cert),
                                      .key = mem_strdup(files->key),
                                      .client_ca = mem_strdup(files->client_ca)};
    stamp_of(&s->tls_files, s->tls_stamp);
    return tls_keys_load(&s->tls_files, &s->tls_keys, e);
}

void http_tls_close(struct http_server *s)
{
    for (size_t i = 0; i < s->handed.n; i++)
        http_front_peer_unref(s->handed.items[i]);
    vec_fini(&s->handed);
    tls_keys_unref(s->tls_keys);
    mem_free(s->tls_files.cert);
    mem_free(s->tls_files.key);
    mem_free(s->tls_files.client_ca);
    pthread_mutex_destroy(&s->tls_lock);
}

int http_tls_reload(struct http_server *s, bool in_any_case, struct err *e)
{
    char stamp[160];
    struct tls_keys *fresh = NULL, *old = NULL;
    if (s->tls_files.cert == NULL)
        return OK;
    stamp_of(&s->tls_files, stamp);
    pthread_mutex_lock(&s->tls_lock);
    bool changed = strcmp(stamp, s->tls_stamp) != 0;
    pthread_mutex_unlock(&s->tls_lock);
    if (!changed && !in_any_case)
        return OK;
    int rc = tls_keys_load(&s->tls_files, &fresh, e);
    pthread_mutex_lock(&s->tls_lock);
    memcpy(s->tls_stamp, stamp, sizeof(stamp));
    s->tls_fault[0] = '\0';
    if (rc == OK) {
        old = s->tls_keys;
        s->tls_keys = fresh;
    } else if (e != NULL) {
        memcpy(s->tls_fault, e->text, sizeof(s->tls_fault));
    }
    pthread_mutex_unlock(&s->tls_lock);
    tls_keys_unref(old);
    return rc;
}

void http_tls_fault(struct http_server *s, char to[ERR_TEXT_MAX], int64_t *expires_us)
{
    pthread_mutex_lock(&s->tls_lock);
    memcpy(to, s->tls_fault, ERR_TEXT_MAX);
    *expires_us = s->tls_keys != NULL ? tls_keys_expire_us(s->tls_keys) : 0;
    pthread_mutex_unlock(&s->tls_lock);
}

/* ---- the front ---- */

static struct tls_keys *keys_now(void *ctx)
{
    struct http_server *s = ((struct http_listening *)ctx)->server;
    pthread_mutex_lock(&s->tls_lock);
    struct tls_keys *k = tls_keys_ref(s->tls_keys);
    pthread_mutex_unlock(&s->tls_lock);
    return k;
}

static void handed_put(struct http_server *s, int fd, struct http_front_peer *p)
{
    pthread_mutex_lock(&s->tls_lock);
    while (s->handed.n <= (size_t)fd)
        vec_push(&s->handed, NULL);
    struct http_front_peer *old = s->handed.items[fd]; /* of one that was never begun */
    s->handed.items[fd] = p;
    pthread_mutex_unlock(&s->tls_lock);
    http_front_peer_unref(old);
}

/* The library has closed the descriptor; by now its number may be another connection's. */
static void handed_drop(struct http_server *s, int fd, struct http_front_peer *p)
{
    pthread_mutex_lock(&s->tls_lock);
    bool ours = s->handed.items[fd] == p;
    if (ours)
        s->handed.items[fd] = NULL;
    pthread_mutex_unlock(&s->tls_lock);
    if (ours)
        http_front_peer_unref(p);
}

struct http_front_peer *http_tls_peer_take(struct http_server *s, int fd)
{
    struct http_front_peer *p = NULL;
    pthread_mutex_lock(&s->tls_lock);
    if ((size_t)fd < s->handed.n) {
        p = s->handed.items[fd];
        s->handed.items[fd] = NULL;
    }
    pthread_mutex_unlock(&s->tls_lock);
    return p;
}

static bool take_in(void *ctx, int fd, struct http_front_peer *peer, const struct sockaddr *from,
                    socklen_t n)
{
    struct http_listening *l = ctx;
    handed_put(l->server, fd, peer);
    if (MHD_add_connection(l->daemon, fd, from, n) == MHD_YES)
        return true;
    handed_drop(l->server, fd, peer);
    return false;
}

int http_tls_listen(struct http_listening *l, int fd, int handshake_s, struct err *e)
{
    static const struct http_front_ops ops = {.accept = take_in, .keys = keys_now};
    int most = l->server->max_connections + HTTP_OVER_MAX;
    return http_front_start(fd, &ops, l, most, handshake_s, &l->front, e);
}
