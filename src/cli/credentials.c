/* What `drover login` leaves: one file of the user, mode 0600, with one entry a server. Always
 * written whole beside the old one and renamed, so that no reader sees half of it; a process that
 * rotates a token holds the lock, because a refresh token that is used twice ends the sign-in.
 */
#include "cli/client.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 1 << 20 }; /* a credentials file larger than this is not ours */

/* $XDG_CONFIG_HOME/drover/NAME, making the folder if asked. */
static int path_of(const char *name, bool make, char *to, size_t room, struct err *e)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char folder[400];
    if (config != NULL && *config == '/')
        snprintf(folder, sizeof(folder), "%s", config);
    else if (home != NULL && *home != '\0')
        snprintf(folder, sizeof(folder), "%s/.config", home);
    else
        return err_set(e, ERR_NOT_FOUND,
                       "neither HOME nor XDG_CONFIG_HOME is set: nowhere to keep the sign-in");
    if (make)
        mkdir(folder, 0700);
    size_t n = strlen(folder);
    snprintf(folder + n, sizeof(folder) - n, "/drover");
    if (make && mkdir(folder, 0700) != 0 && errno != EEXIST)
        return err_sys(e, "making %s", folder);
    snprintf(to, room, "%s/%s", folder, name);
    return OK;
}

int credential_lock(int *fd, struct err *e)
{
    char path[512];
    int k = path_of("credentials.lock", true, path, sizeof(path), e);
    if (k != OK)
        return k;
    AUTO(fd) int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) != 0)
        return err_sys(e, "locking %s", path);
    *fd = lock;
    lock = -1;
    return OK;
}

/* The file's tree; *out NULL when there is no file. */
static int read_file(struct jv **out, struct err *e)
{
    char path[512];
    *out = NULL;
    if (path_of("credentials.json", false, path, sizeof(path), NULL) != OK)
        return OK;
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? OK : err_sys(e, "reading %s", path);
    AUTO(buf) struct buf b = {.max = FILE_MAX};
    char part[4096];
    ssize_t n;
    while ((n = read(fd, part, sizeof(part))) > 0)
        buf_add(&b, part, (size_t)n);
    int k = jv_parse(buf_str(&b), b.len, out, NULL, e);
    if (k != OK)
        err_set(e, ERR_CORRUPT, "%s cannot be read; remove it and sign in again: drover login",
                path);
    return k;
}

static const struct jv *entry_of(const struct jv *root, const char *url)
{
    const struct jv *servers = root != NULL ? jv_get(root, "servers") : NULL;
    return jv_kind(servers) == JV_OBJECT ? jv_get(servers, url) : NULL;
}

static void copy(char *to, size_t room, const char *from)
{
    snprintf(to, room, "%s", from != NULL ? from : "");
}

int credential_load(const char *url, struct credential *out, struct err *e)
{
    AUTO(jv) struct jv *root = NULL;
    int k = read_file(&root, e);
    if (k != OK)
        return k;
    struct credential c = {0};
    const struct jv *entry = entry_of(root, url);
    if (entry != NULL) {
        copy(c.access, sizeof(c.access), jv_get_text(entry, "access_token"));
        copy(c.refresh, sizeof(c.refresh), jv_get_text(entry, "refresh_token"));
        copy(c.email, sizeof(c.email), jv_get_text(entry, "email"));
        const char *expires = jv_get_text(entry, "expires_at");
        if (expires == NULL || !time_parse(expires, &c.expires_us))
            c.expires_us = 0;
    }
    *out = c;
    return OK;
}

static void write_entry(struct json *j, const struct credential *c)
{
    json_open(j, '{');
    json_ktext(j, "email", c->email);
    json_ktext(j, "access_token", c->access);
    json_ktext(j, "refresh_token", c->refresh);
    json_ktime(j, "expires_at", c->expires_us);
    json_close(j, '}');
}

/* Writes the file anew with url's entry replaced, or left out when c is NULL. */
static int write_file(const char *url, const struct credential *c, struct err *e)
{
    char path[512], tmp[520];
    AUTO(jv) struct jv *root = NULL;
    AUTO(buf) struct buf b = {0};
    AUTO(arena) struct arena a = {0};
    int k = path_of("credentials.json", true, path, sizeof(path), e);
    if (k != OK)
        return k;
    if (read_file(&root, NULL) != OK)
        root = NULL; /* unreadable: signing in again is how it is mended */
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_key(&j, "servers");
    json_open(&j, '{');
    const struct jv *servers = root != NULL ? jv_get(root, "servers") : NULL, *value;
    const char *name;
    const void *it = NULL;
    while (jv_kind(servers) == JV_OBJECT && (it = jv_next(servers, it, &name, &value)) != NULL)
        if (strcmp(name, url) != 0) {
            json_key(&j, name);
            json_raw(&j, jv_dump(value, &a));
        }
    if (c != NULL) {
        json_key(&j, url);
        write_entry(&j, c);
    }
    json_close(&j, '}');
    json_close(&j, '}');
    buf_addc(&b, '\n');
    snprintf(tmp, sizeof(tmp), "%s.new", path);
    unlink(tmp);
    AUTO(fd) int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, b.data, b.len) != (ssize_t)b.len || fsync(fd) != 0 ||
        rename(tmp, path) != 0) {
        k = err_sys(e, "writing %s", path);
        unlink(tmp);
        return k;
    }
    return OK;
}

int credential_save(const char *url, const struct credential *c, struct err *e)
{
    return write_file(url, c, e);
}

int credential_delete(const char *url, struct err *e)
{
    return write_file(url, NULL, e);
}

bool credential_of_answer(const struct jv *answer, struct credential *out)
{
    const char *access = jv_get_text(answer, "access_token");
    const char *refresh = jv_get_text(answer, "refresh_token");
    if (access == NULL || strlen(access) >= sizeof(out->access))
        return false;
    copy(out->access, sizeof(out->access), access);
    copy(out->refresh, sizeof(out->refresh), refresh);
    const struct jv *user = jv_get(answer, "user");
    const char *email = jv_kind(user) == JV_OBJECT ? jv_get_text(user, "email") : NULL;
    if (email != NULL)
        copy(out->email, sizeof(out->email), email);
    out->expires_us = now_us() + jv_get_int(answer, "expires_in", 0) * US_PER_S;
    return true;
}
