/* Asking for a stream, opening it, and what both ends say to each other. */
#include "cli/stream.h"

#include "base/str.h"

#include <stdio.h>
#include <string.h>

int stream_ask(struct cli *c, struct client *client, const char *job, const char *body,
               char stream[STREAM_NAME_SIZE], struct err *e)
{
    AUTO(reply) struct reply r = {0};
    struct call q = {.path = job_path(&c->arena, job, "/streams"), .body = body};
    int rc = job_call(c, client, job, &q, &r, e);
    if (rc != OK)
        return rc;
    const char *id = jv_get_text(r.json, "id");
    if (id == NULL || strlen(id) >= STREAM_NAME_SIZE)
        return err_set(e, ERR_UPSTREAM, "the server's answer names no stream");
    snprintf(stream, STREAM_NAME_SIZE, "%s", id);
    return OK;
}

static void on_word(void *ctx, const char *type, const struct jv *m)
{
    struct session *s = ctx;
    if (str_eq(type, "opened")) {
        s->d.open = true;
    } else if (str_eq(type, "exit")) {
        int64_t sig = jv_get_int(m, "signal", 0);
        s->exit_code = (int)(sig > 0 ? 128 + sig : jv_get_int(m, "code", 0));
        s->over = true;
    } else if (str_eq(type, "error")) {
        const char *kind = jv_get_text(m, "kind"), *text = jv_get_text(m, "text");
        s->over = true;
        err_set(&s->error, ERR_UPSTREAM, "%s", text != NULL ? err_tr(text) : "");
        for (int k = OK + 1; k < ERR_KINDS; k++)
            if (kind != NULL && str_eq(err_row((enum err_kind)k)->name, kind))
                s->error.kind = (enum err_kind)k;
    }
}

int session_open(const struct client *client, const char *stream, struct session *s, struct err *e)
{
    char path[120];
    *s = (struct session){0};
    snprintf(path, sizeof(path), "/v1/streams/%s", stream);
    int rc = client_socket(client, path, DUPLEX_PROTOCOL, DUPLEX_MESSAGE_MAX, &s->ws, e);
    if (rc == OK)
        duplex_init(&s->d, s->ws, on_word, s);
    return rc;
}

int session_wait(struct session *s, struct err *e)
{
    while (!s->d.open && !s->over) {
        int rc = duplex_step(&s->d, NULL, 0, 1000, e);
        if (rc != OK && s->error.kind == OK)
            return rc;
    }
    if (s->error.kind != OK)
        *e = s->error;
    return s->error.kind;
}

void session_close(struct session *s)
{
    if (s->ws == NULL)
        return;
    ws_client_close(s->ws);
    duplex_fini(&s->d);
    s->ws = NULL;
}
