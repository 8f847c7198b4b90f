/* One try to connect, on a thread. Both sides hold a reference; the last one frees. */
#include "agent/dialer.h"

#include "agent/node.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct dialer {
    struct agent_config config; /* its texts live as long as the program */
    char token[CREDENTIAL_SIZE];
    const char *path, *protocol;
    int done; /* eventfd */
    atomic_int refs;
    int kind;
    struct err why;
    struct ws_client *ws;
};

static void put(struct dialer *d)
{
    if (atomic_fetch_sub(&d->refs, 1) > 1)
        return;
    ws_client_close(d->ws);
    close(d->done);
    mem_free(d);
}

static void *dial_main(void *ctx)
{
    struct dialer *d = ctx;
    uint64_t one = 1;
    d->kind = agent_dial(&d->config, d->path, d->protocol, &d->ws, &d->why);
    if (write(d->done, &one, sizeof(one)) < 0)
        d->kind = err_sys(&d->why, "eventfd"); /* cannot be: its counter is 0 */
    put(d);
    return NULL;
}

int dialer_start(const struct agent_config *config, const char *path, const char *protocol,
                 struct dialer **out, struct err *e)
{
    struct dialer *d = mem_alloc(sizeof(*d));
    pthread_t thread;
    pthread_attr_t attr;
    d->config = *config;
    d->path = path;
    d->protocol = protocol;
    if (config->token != NULL) {
        snprintf(d->token, sizeof(d->token), "%s", config->token);
        d->config.token = d->token;
    }
    atomic_init(&d->refs, 2);
    d->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    bool runs = d->done >= 0 && pthread_create(&thread, &attr, dial_main, d) == 0;
    pthread_attr_destroy(&attr);
    if (!runs) {
        if (d->done >= 0)
            close(d->done);
        mem_free(d);
        return err_sys(e, "cannot start a thread to connect");
    }
    *out = d;
    return OK;
}

int dialer_fd(const struct dialer *d)
{
    return d->done;
}

int dialer_take(struct dialer *d, struct ws_client **out, struct err *e)
{
    int kind = d->kind;
    if (kind == OK)
        *out = TAKE(d->ws);
    else
        *e = d->why;
    put(d);
    return kind;
}

void dialer_drop(struct dialer *d)
{
    if (d != NULL)
        put(d);
}
