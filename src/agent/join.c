/* Joining a server. What must stay true: the secret is on the disk before its hash leaves, so that
 * an answer that is lost costs nothing; it is never logged and never sent anywhere but to the
 * server as a bearer credential. */
#include "agent/join.h"

#include "agent/folder.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "io/ask.h"
#include "io/crypto.h"
#include "io/json_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 4096, SECRET_CHARS = 43, TIMEOUT_MS = 15000, ANSWER_MAX = 64 << 10 };
#define FILE_NAME "credential"

static void copy(const struct jv *o, const char *key, char *to, size_t size)
{
    const char *s = jv_get_text(o, key);
    snprintf(to, size, "%s", s != NULL ? s : "");
}

int credential_load(int dir, struct credential *out, struct err *e)
{
    char text[FILE_MAX + 1];
    AUTO(jv) struct jv *v = NULL;
    *out = (struct credential){0};
    ssize_t n = folder_read(dir, FILE_NAME, text, FILE_MAX);
    if (n < 0 && errno == ENOENT)
        return OK;
    if (n < 0)
        return err_sys(e, "cannot read the agent's credential");
    struct err why;
    if (jv_parse(text, (size_t)n, &v, NULL, &why) != OK || jv_get_text(v, "credential") == NULL)
        return err_set(e, ERR_CORRUPT,
                       "the file agent/credential is damaged: delete it and join again");
    copy(v, "server", out->server, sizeof(out->server));
    copy(v, "node", out->node, sizeof(out->node));
    copy(v, "name", out->name, sizeof(out->name));
    copy(v, "credential", out->secret, sizeof(out->secret));
    copy(v, "next", out->next, sizeof(out->next));
    out->joined = jv_get_bool(v, "joined", false);
    return OK;
}

int credential_save(int dir, const struct credential *c, struct err *e)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "server", c->server);
    json_ktext(&j, "node", c->node);
    json_ktext(&j, "name", c->name);
    json_ktext(&j, "credential", c->secret);
    if (c->next[0] != '\0')
        json_ktext(&j, "next", c->next);
    json_kbool(&j, "joined", c->joined);
    json_close(&j, '}');
    buf_addc(&b, '\n');
    AUTO(fd) int fd = openat(dir, FILE_NAME ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fchmod(fd, 0600) != 0 || write(fd, b.data, b.len) != (ssize_t)b.len ||
        fsync(fd) != 0 || renameat(dir, FILE_NAME ".new", dir, FILE_NAME) != 0 || fsync(dir) != 0)
        return err_sys(e, "cannot write the agent's credential");
    return OK;
}

void credential_forget(int dir)
{
    unlinkat(dir, FILE_NAME, 0);
}

int credential_join(int dir, const struct agent_config *config, const char *name,
                    struct credential *c, struct err *e)
{
    char random[SECRET_CHARS + 1], hex[SHA256_HEX_SIZE];
    AUTO(buf) struct buf body = {0}, answer = {0};
    AUTO(jv) struct jv *v = NULL;
    int k = crypto_init(e);
    if (k != OK)
        return k;
    if (c->secret[0] == '\0' || !str_eq(c->server, config->server)) {
        *c = (struct credential){0};
        snprintf(c->server, sizeof(c->server), "%s", config->server);
        snprintf(c->secret, sizeof(c->secret), "dra_%s", random_text(random, SECRET_CHARS));
    }
    snprintf(c->name, sizeof(c->name), "%s", name);
    if ((k = credential_save(dir, c, e)) != OK)
        return k;
    struct json j = json_to(&body);
    json_open(&j, '{');
    json_ktext(&j, "token", config->join);
    json_ktext(&j, "name", name);
    json_ktext(&j, "credential_hash", sha256_hex(c->secret, hex));
    json_close(&j, '}');
    struct ask ask = {.path = "/v1/agents/join", .body = buf_str(&body)};
    k = ask_once(&config->to, &ask, ANSWER_MAX, TIMEOUT_MS, &answer, e);
    if (k != OK)
        return k;
    k = jv_parse(buf_str(&answer), answer.len, &v, NULL, e);
    if (k == OK && jv_get_text(v, "node") == NULL)
        k = err_set(e, ERR_UPSTREAM, "the server's answer to the join is not understood");
    if (k != OK)
        return k;
    copy(v, "node", c->node, sizeof(c->node));
    copy(v, "name", c->name, sizeof(c->name));
    c->joined = true;
    return credential_save(dir, c, e);
}

static bool needs_no_credential(const struct agent_config *c)
{
    return c->token != NULL || (c->server != NULL && c->to.unix_path[0] != '\0');
}

static int use_kept(struct agent_config *c, const struct credential *own, struct err *e)
{
    if (!own->joined)
        return err_set(e, ERR_UNAUTHENTICATED,
                       "this host has not joined a server yet. There: drover agent token. Here: "
                       "drover-agent --server http(s)://HOST:PORT --join TOKEN");
    c->token = own->secret;
    return c->server != NULL ? OK : dial_parse(own->server, &c->to, e);
}

int credential_use(int dir, struct agent_config *c, const char *host, struct credential *own,
                   struct err *e)
{
    if (needs_no_credential(c))
        return OK;
    int k = credential_load(dir, own, e);
    if (k != OK)
        return k;
    if (c->join != NULL && own->joined) {
        log_info("agent", "already joined %s as %s (%s): the token was not used", own->server,
                 own->name, own->node);
    } else if (c->join != NULL && c->server == NULL) {
        return err_set(e, ERR_INVALID, "--join needs --server http(s)://HOST:PORT");
    } else if (c->join != NULL) {
        k = credential_join(dir, c, c->name != NULL ? c->name : host, own, e);
        if (k != OK)
            return k;
        log_info("agent", "joined %s as %s (%s)", own->server, own->name, own->node);
    }
    return use_kept(c, own, e);
}

int credential_of_data(struct agent_config *c, struct credential *own, struct err *e)
{
    if (needs_no_credential(c))
        return OK;
    AUTO(mem) char *path = mem_printf("%s/agent", c->data);
    AUTO(fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(e, "cannot open %s", path);
    int k = credential_load(dir, own, e);
    return k != OK ? k : use_kept(c, own, e);
}
