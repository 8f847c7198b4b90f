/* Which server: --server, DROVER_URL, else the first socket of a local server that is there, else
 * the default address. What was looked for is kept, because an error must say it.
 */
#include "cli/client.h"

#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char default_url[] = "http://127.0.0.1:8080";

static int set_url(struct server *s, const char *url, struct err *e)
{
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/')
        n--;
    if (n >= sizeof(s->url))
        return err_set(e, ERR_INVALID, "the server's address is too long");
    snprintf(s->url, sizeof(s->url), "%.*s", (int)n, url);
    if (str_starts(s->url, "unix:")) {
        const char *path = s->url + 5 + (str_starts(s->url, "unix://") ? 2 : 0);
        if (*path == '\0')
            return err_set(e, ERR_INVALID, "\"%s\" names no socket: unix:/path/drover.sock", url);
        snprintf(s->unix_path, sizeof(s->unix_path), "%s", path);
        return OK;
    }
    if (!str_starts(s->url, "http://") && !str_starts(s->url, "https://"))
        return err_set(e, ERR_INVALID,
                       "\"%s\" is no server address: http://host:port, https://… or unix:/path",
                       url);
    return OK;
}

/* Looks for one socket; the first that this user may open counts. */
static bool look_for(struct server *s, const char *folder, const char *below)
{
    char path[400];
    if (folder == NULL || *folder == '\0')
        return false;
    snprintf(path, sizeof(path), "%s%s/drover.sock", folder, below);
    size_t used = strlen(s->tried);
    snprintf(s->tried + used, sizeof(s->tried) - used, "%s\n", path);
    if (access(path, R_OK | W_OK) != 0)
        return false;
    snprintf(s->unix_path, sizeof(s->unix_path), "%s", path);
    char *whole = realpath(path, NULL);
    snprintf(s->url, sizeof(s->url), "unix:%s", whole != NULL ? whole : path);
    free(whole);
    return true;
}

int server_find(const char *named, struct server *out, struct err *e)
{
    struct server s = {.by_default = false};
    if (named == NULL)
        named = getenv("DROVER_URL");
    if (named != NULL && *named != '\0') {
        int k = set_url(&s, named, e);
        if (k == OK)
            *out = s;
        return k;
    }
    s.by_default = true;
    if (!look_for(&s, getenv("DROVER_DATA"), "") && !look_for(&s, ".", "/data") &&
        !look_for(&s, "/run/drover", "") && !look_for(&s, getenv("HOME"), "/.local/share/drover"))
        snprintf(s.url, sizeof(s.url), "%s", default_url);
    *out = s;
    return OK;
}

bool server_is_here(const struct server *s)
{
    return s->unix_path[0] != '\0' || str_starts(s->url, "http://127.") ||
           str_starts(s->url, "http://localhost") || str_starts(s->url, "http://[::1]");
}
