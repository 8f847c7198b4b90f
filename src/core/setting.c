/* Settings: one row each, in the table of the room that uses it. The environment wins over the
 * file .env in the working directory, which wins over the default; the command line wins over
 * all. A value that breaks its row stops the start and names the variable and the rule. */
#include "core/house_parts.h"

#include "base/str.h"
#include "io/json_in.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Settings of the house itself; every other room brings its own. */
static const struct setting house_settings[] = {
    {"DATA_DIR", "DROVER_DATA", SET_TEXT, "./data", .doc = "where state, logs and the socket live"},
    {"DATABASE_URL", NULL, SET_TEXT, NULL, .secret = true,
     .doc = "sqlite:///file or postgresql://…; default: database.db in DATA_DIR"},
    {"DISK_FLOOR_MIB", NULL, SET_INT, "-1", -1, 1 << 30,
     .doc = "free space that logs leave to the database; -1: 5 % of the disk, 16 MiB to 1 GiB; "
            "0: none"},
    {"SEED_DEMO", NULL, SET_BOOL, "false", .doc = "the demo: example accounts, simulated hardware"},
    {"API_WORKERS", NULL, SET_INT, "16", 0, 256, .doc = "worker threads; 0: four a core"},
    {"DEFAULT_LANG", NULL, SET_WORD, "en", .words = "en|zh", .doc = "language of texts"},
    {"PUBLIC_URL", NULL, SET_TEXT, NULL, .doc = "the address that people use, behind a proxy"},
    {"RATE_LIMIT", NULL, SET_BOOL, "on", .doc = "rate limits at all"},
    {"RATE_LIMIT_DEFAULT", NULL, SET_INT, "6000", 1, 100000000,
     .doc = "requests a minute for each credential"},
    {"RATE_LIMIT_SIGN_IN", NULL, SET_INT, "60", 1, 1000000,
     .doc = "requests a minute to /auth for each address"},
    {"ALLOWED_ORIGINS", NULL, SET_LIST, "[\"*\"]", .doc = "CORS origins"},
    {"CORS_ORIGINS", NULL, SET_LIST, "[\"http://localhost:3000\",\"http://127.0.0.1:3000\"]",
     .doc = "CORS origins, merged with ALLOWED_ORIGINS"},
};

static char *setting_value(const struct house *h, const char *name)
{
    return map_get(&h->values, name);
}

static const struct setting *setting_row(const struct house *h, const char *name)
{
    const struct setting *s = map_get(&h->settings, name);
    if (s == NULL) {
        fprintf(stderr, "drover: no such setting in any table: %s\n", name);
        abort(); /* a name that no table has: a bug that the first start shows */
    }
    return s;
}

const char *setting_text(const struct house *h, const char *name)
{
    const struct setting *s = setting_row(h, name);
    const char *v = setting_value(h, name);
    return v != NULL ? v : s->def;
}

bool setting_given(const struct house *h, const char *name)
{
    setting_row(h, name);
    return setting_value(h, name) != NULL;
}

static bool read_bool(const char *s, bool *out)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off", ""};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        if (str_eq_nocase(s, yes[i])) {
            *out = true;
            return true;
        }
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        if (str_eq_nocase(s, no[i])) {
            *out = false;
            return true;
        }
    return false;
}

int64_t setting_int(const struct house *h, const char *name)
{
    const struct setting *s = setting_row(h, name);
    const char *v = setting_text(h, name);
    int64_t n = 0;
    if (v == NULL)
        return 0;
    if (s->type == SET_DURATION_S) {
        duration_parse(v, &n);
        return n / 1000000;
    }
    str_int(v, &n);
    return n;
}

bool setting_bool(const struct house *h, const char *name)
{
    const char *v = setting_text(h, name);
    bool b = false;
    if (v != NULL)
        read_bool(v, &b);
    return b;
}

struct texts setting_list(const struct house *h, const char *name)
{
    struct house *own = (struct house *)(uintptr_t)h;
    const char *v = setting_text(h, name);
    struct texts t = {0};
    struct err e;
    if (v == NULL)
        return t;
    while (isspace((unsigned char)*v))
        v++;
    if (*v == '[' && texts_read(v, &own->arena, &t, &e) == OK)
        return t;
    size_t n = 1;
    for (const char *c = v; *c != '\0'; c++)
        n += *c == ',';
    t.items = arena_alloc(&own->arena, (n + 1) * sizeof(*t.items));
    while (*v != '\0') {
        size_t len = strcspn(v, ",");
        const char *from = v;
        size_t m = len;
        while (m > 0 && isspace((unsigned char)*from))
            from++, m--;
        while (m > 0 && isspace((unsigned char)from[m - 1]))
            m--;
        if (m > 0)
            t.items[t.n++] = arena_strndup(&own->arena, from, m);
        v += len;
        if (*v == ',')
            v++;
    }
    return t;
}

void settings_each(const struct house *h,
                   void (*fn)(const struct setting *s, const char *value, void *ctx), void *ctx)
{
    for (size_t i = 0; i < h->setting_rows.n; i++) {
        const struct setting *s = h->setting_rows.items[i];
        fn(s, setting_text(h, s->name), ctx);
    }
}

/* ---- reading ---- */

static void value_put(struct house *h, const char *name, const char *value)
{
    mem_free(map_put(&h->values, name, mem_strdup(value)));
}

void setting_override(struct house *h, const char *name, const char *value)
{
    setting_row(h, name);
    value_put(h, name, value);
    map_put(&h->overridden, name, h);
}

/* The value of a line: in quotes as it is, else up to a blank and a # that start a comment. */
static char *line_value(char *s)
{
    s += strspn(s, " \t");
    if (*s == '"' || *s == '\'') {
        char *close = strchr(s + 1, *s);
        if (close != NULL && (close[1] == '\0' || isspace((unsigned char)close[1]))) {
            *close = '\0';
            return s + 1;
        }
    }
    size_t end = 0;
    for (size_t i = 0; s[i] != '\0' && !(s[i] == '#' && (i == 0 || i > end)); i++)
        if (!isspace((unsigned char)s[i]))
            end = i + 1;
    s[end] = '\0';
    return s;
}

/* NAME=VALUE lines, as .env.example has them. */
static void read_env_file(struct map *into, const char *path)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, f) > 0) {
        char *name = line + strspn(line, " \t");
        if (strncmp(name, "export ", 7) == 0)
            name += 7 + strspn(name + 7, " \t");
        char *eq = strchr(name, '=');
        if (*name == '#' || eq == NULL)
            continue;
        char *value = line_value(eq + 1);
        while (eq > name && isspace((unsigned char)eq[-1]))
            eq--;
        *eq = '\0';
        for (char *c = name; *c != '\0'; c++)
            *c = (char)toupper((unsigned char)*c);
        mem_free(map_put(into, name, mem_strdup(value)));
    }
    free(line);
    fclose(f);
}

static const char *from_environment(const char *name)
{
    const char *v = getenv(name);
    if (v != NULL)
        return v;
    char low[128];
    size_t i = 0;
    for (; name[i] != '\0' && i + 1 < sizeof(low); i++)
        low[i] = (char)tolower((unsigned char)name[i]);
    low[i] = '\0';
    return getenv(low);
}

/* NAME= says "the default" where nothing is no value at all; an empty list is one. */
static bool says_nothing(const struct setting *s, const char *v)
{
    return *v == '\0' && s->type != SET_LIST && s->type != SET_BOOL &&
           (s->type != SET_TEXT || s->def == NULL);
}

static int check_value(const struct setting *s, const char *v, struct err *e)
{
    int64_t n;
    bool b;
    switch (s->type) {
    case SET_INT:
        if (!str_int(v, &n))
            return err_set(e, ERR_INVALID, "%s must be a whole number, not \"%s\"", s->name, v);
        if ((s->min != 0 || s->max != 0) && (n < s->min || n > s->max))
            return err_set(e, ERR_INVALID, "%s must be %lld to %lld, not %s", s->name,
                           (long long)s->min, (long long)s->max, v);
        return OK;
    case SET_BOOL:
        return read_bool(v, &b)
                   ? OK
                   : err_set(e, ERR_INVALID, "%s must be on or off, not \"%s\"", s->name, v);
    case SET_DURATION_S:
        return duration_parse(v, &n)
                   ? OK
                   : err_set(e, ERR_INVALID, "%s must be a time such as 30s or 5m, not \"%s\"",
                             s->name, v);
    case SET_WORD: {
        size_t len = strlen(v);
        for (const char *w = s->words; *w != '\0';) {
            size_t m = strcspn(w, "|");
            if (m == len && strncasecmp(w, v, m) == 0)
                return OK;
            w += m + (w[m] == '|');
        }
        return err_set(e, ERR_INVALID, "%s must be one of %s, not \"%s\"", s->name, s->words, v);
    }
    case SET_LIST: {
        AUTO(arena) struct arena a = {0};
        struct texts t;
        if (v[strspn(v, " \t")] == '[' && texts_read(v, &a, &t, NULL) != OK)
            return err_set(e, ERR_INVALID, "%s must be a JSON list of texts, or a,b,c, not \"%s\"",
                           s->name, v);
        return OK;
    }
    case SET_TEXT:
        break;
    }
    return OK;
}

/* A word in any case is kept as its row writes it, because rooms compare it so. */
static void keep_word(struct house *h, const struct setting *s, const char *v)
{
    size_t len = strlen(v);
    for (const char *w = s->words; *w != '\0';) {
        size_t m = strcspn(w, "|");
        if (m == len && strncasecmp(w, v, m) == 0 && strncmp(w, v, m) != 0) {
            AUTO(mem) char *own = mem_printf("%.*s", (int)m, w);
            value_put(h, s->name, own);
            return;
        }
        w += m + (w[m] == '|');
    }
}

static void add_rows(struct house *h, const struct setting *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        map_put(&h->settings, rows[i].name, (void *)(uintptr_t)&rows[i]);
        vec_push(&h->setting_rows, (void *)(uintptr_t)&rows[i]);
    }
}

void settings_collect(struct house *h)
{
    add_rows(h, house_settings, ARRAY_LEN(house_settings));
    for (size_t i = 0; h->modules[i] != NULL; i++)
        add_rows(h, h->modules[i]->settings, h->modules[i]->n_settings);
}

int settings_read(struct house *h, struct err *e)
{
    struct map file = {0};
    read_env_file(&file, ".env");
    int rc = OK;
    for (size_t i = 0; i < h->setting_rows.n && rc == OK; i++) {
        const struct setting *s = h->setting_rows.items[i];
        AUTO(mem)
        char *names = mem_printf("%s%s%s", s->name, s->aliases ? "," : "",
                                 s->aliases ? s->aliases : "");
        const char *v = NULL;
        char *rest = names, *name;
        char *names_again = mem_strdup(names);
        while (v == NULL && (name = strsep(&rest, ",")) != NULL)
            v = from_environment(name);
        rest = names_again;
        while (v == NULL && (name = strsep(&rest, ",")) != NULL)
            v = map_get(&file, name);
        if (v != NULL && !says_nothing(s, v) && map_get(&h->overridden, s->name) == NULL)
            value_put(h, s->name, v);
        mem_free(names_again);
        const char *now = setting_text(h, s->name);
        if (now != NULL)
            rc = check_value(s, now, e);
        if (now != NULL && rc == OK && s->type == SET_WORD)
            keep_word(h, s, now);
    }
    size_t at = 0;
    void *v;
    while (map_next(&file, &at, NULL, &v))
        mem_free(v);
    map_fini(&file);
    return rc;
}
