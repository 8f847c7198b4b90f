/* Records: SQL from tables. The texts are made once and kept, because the store finds its
 * prepared statements by text. */
#include "core/record.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"
#include "io/json_in.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* ---- interned SQL ---- */

static pthread_mutex_t intern_lock = PTHREAD_MUTEX_INITIALIZER;
static struct map interned;

__attribute__((destructor)) static void intern_fini(void)
{
    size_t at = 0;
    void *text;
    while (map_next(&interned, &at, NULL, &text))
        mem_free(text);
    map_fini(&interned);
}

const char *sql_intern(const char *a, const char *b, const char *c)
{
    char stack[4096];
    int n = snprintf(stack, sizeof(stack), "%s%s%s", a, b, c);
    AUTO(mem) char *heap = NULL;
    const char *key = stack;
    if (n >= (int)sizeof(stack))
        key = heap = mem_printf("%s%s%s", a, b, c);
    pthread_mutex_lock(&intern_lock);
    char *text = map_get(&interned, key);
    if (text == NULL) {
        text = mem_strdup(key);
        map_put(&interned, text, text);
    }
    pthread_mutex_unlock(&intern_lock);
    return text;
}

const char *record_columns(const struct record *r, const char *alias)
{
    AUTO(buf) struct buf b = {0};
    for (size_t i = 0; i < r->n; i++)
        buf_printf(&b, "%s%s%s", i > 0 ? "," : "", alias != NULL ? alias : "",
                   r->members[i].column);
    return sql_intern(buf_str(&b), "", "");
}

/* ---- lists and maps of text, stored as JSON ---- */

const char *texts_json(const struct texts *t, struct arena *a)
{
    if (t->items == NULL)
        return NULL;
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '[');
    for (size_t i = 0; i < t->n; i++)
        json_text(&j, t->items[i]);
    json_close(&j, ']');
    return arena_strndup(a, b.data, b.len);
}

const char *textmap_json(const struct textmap *m, struct arena *a)
{
    if (m->keys == NULL)
        return NULL;
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    for (size_t i = 0; i < m->n; i++)
        json_ktext(&j, m->keys[i], m->values[i]);
    json_close(&j, '}');
    return arena_strndup(a, b.data, b.len);
}

int texts_read(const char *json, struct arena *a, struct texts *out, struct err *e)
{
    AUTO(jv) struct jv *v = NULL;
    int rc = jv_parse(json, strlen(json), &v, NULL, e);
    if (rc != OK || jv_kind(v) != JV_LIST)
        return err_set(e, ERR_CORRUPT, "a stored list of texts is not one");
    struct texts t = {.n = jv_len(v)};
    t.items = arena_alloc(a, (t.n + 1) * sizeof(*t.items));
    for (size_t i = 0; i < t.n; i++) {
        const char *s = jv_text(jv_at(v, i), NULL);
        t.items[i] = arena_strdup(a, s != NULL ? s : "");
    }
    *out = t;
    return OK;
}

int textmap_read(const char *json, struct arena *a, struct textmap *out, struct err *e)
{
    AUTO(jv) struct jv *v = NULL;
    int rc = jv_parse(json, strlen(json), &v, NULL, e);
    if (rc != OK || jv_kind(v) != JV_OBJECT)
        return err_set(e, ERR_CORRUPT, "a stored map of texts is not one");
    struct textmap m = {.n = 0};
    size_t n = jv_len(v);
    m.keys = arena_alloc(a, (n + 1) * sizeof(*m.keys));
    m.values = arena_alloc(a, (n + 1) * sizeof(*m.values));
    const char *name;
    const struct jv *value;
    for (const void *it = NULL; (it = jv_next(v, it, &name, &value)) != NULL; m.n++) {
        const char *s = jv_text(value, NULL);
        m.keys[m.n] = arena_strdup(a, name);
        m.values[m.n] = arena_strdup(a, s != NULL ? s : "");
    }
    *out = m;
    return OK;
}

int names_find(const char *const *names, const char *text)
{
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], text) == 0)
            return i;
    return -1;
}

/* ---- binding ---- */

static struct value member_value(const struct member *m, const void *obj, struct arena *a)
{
    const char *at = (const char *)obj + m->offset;
    switch (m->type) {
    case T_BOOL:
        return v_int(*(const bool *)at ? 1 : 0);
    case T_INT: {
        int64_t v = *(const int64_t *)at;
        return v == INT_NULL ? v_null() : v_int(v);
    }
    case T_TIME:
    case T_ID: {
        int64_t v = *(const int64_t *)at;
        return v == 0 ? v_null() : v_int(v);
    }
    case T_REAL: {
        double v = *(const double *)at;
        return isnan(v) ? v_null() : v_real(v);
    }
    case T_ENUM: {
        int v = *(const int *)at;
        return v < 0 ? v_null() : v_text(m->names[v]);
    }
    case T_TEXT:
    case T_UUID:
    case T_JSON:
        return v_text(*(const char *const *)at);
    case T_TEXTS:
        return v_text(texts_json((const struct texts *)at, a));
    case T_TEXTMAP:
        return v_text(textmap_json((const struct textmap *)at, a));
    case T_NONE:
    case T_OBJECT:
    case T_LIST:
        break;
    }
    return v_null();
}

int record_read(const struct record *r, const struct rows *rows, int first, struct arena *a,
                void *out, struct err *e)
{
    for (size_t i = 0; i < r->n; i++) {
        const struct member *m = &r->members[i];
        int col = first + (int)i;
        char *at = (char *)out + m->offset;
        bool null = row_null(rows, col);
        switch (m->type) {
        case T_BOOL:
            *(bool *)at = row_int(rows, col) != 0;
            break;
        case T_INT:
            *(int64_t *)at = null ? INT_NULL : row_int(rows, col);
            break;
        case T_TIME:
        case T_ID:
            *(int64_t *)at = row_int(rows, col);
            break;
        case T_REAL:
            *(double *)at = row_real(rows, col);
            break;
        case T_ENUM: {
            int v = null ? -1 : names_find(m->names, row_text(rows, col));
            if (v < 0 && !null)
                return err_set(e, ERR_CORRUPT, "%s.%s holds the unknown word \"%s\"", r->table,
                               m->column, row_text(rows, col));
            *(int *)at = v;
            break;
        }
        case T_TEXT:
        case T_UUID:
        case T_JSON:
            *(const char **)at = arena_strdup(a, row_text(rows, col));
            break;
        case T_TEXTS:
            *(struct texts *)at = (struct texts){0};
            if (!null && texts_read(row_text(rows, col), a, (struct texts *)at, e) != OK)
                return err_wrap(e, "%s.%s", r->table, m->column);
            break;
        case T_TEXTMAP:
            *(struct textmap *)at = (struct textmap){0};
            if (!null && textmap_read(row_text(rows, col), a, (struct textmap *)at, e) != OK)
                return err_wrap(e, "%s.%s", r->table, m->column);
            break;
        case T_NONE:
        case T_OBJECT:
        case T_LIST:
            return err_set(e, ERR_INTERNAL, "%s.%s has no column type", r->table, m->column);
        }
    }
    return OK;
}

/* ---- statements ---- */

static bool self_numbered(const struct record *r, const void *obj)
{
    return r->members[0].type == T_ID &&
           *(const int64_t *)((const char *)obj + r->members[0].offset) == 0;
}

int record_insert(struct tx *tx, const struct record *r, const void *obj, int64_t *id,
                  struct err *e)
{
    bool numbered = self_numbered(r, obj);
    size_t skip = numbered ? 1 : 0;
    AUTO(buf) struct buf b = {0};
    buf_printf(&b, "INSERT INTO %s(", r->table);
    for (size_t i = skip; i < r->n; i++)
        buf_printf(&b, "%s%s", i > skip ? "," : "", r->members[i].column);
    buf_adds(&b, ") VALUES(");
    for (size_t i = skip; i < r->n; i++)
        buf_printf(&b, "%s?%zu", i > skip ? "," : "", i - skip + 1);
    buf_addc(&b, ')');
    if (numbered)
        buf_printf(&b, " RETURNING %s", r->members[0].column);
    struct arena *a = tx_arena(tx);
    struct value *args = arena_alloc(a, r->n * sizeof(*args));
    for (size_t i = skip; i < r->n; i++)
        args[i - skip] = member_value(&r->members[i], obj, a);
    const char *sql = sql_intern(buf_str(&b), "", "");
    if (!numbered)
        return tx_exec(tx, sql, args, r->n, NULL, e);
    int64_t got = 0;
    int rc = tx_int(tx, sql, args, r->n - 1, &got, NULL, e);
    if (rc == OK && id != NULL)
        *id = got;
    return rc;
}

int record_update(struct tx *tx, const struct record *r, const void *obj, struct err *e)
{
    AUTO(buf) struct buf b = {0};
    buf_printf(&b, "UPDATE %s SET ", r->table);
    for (size_t i = 1; i < r->n; i++)
        buf_printf(&b, "%s%s=?%zu", i > 1 ? "," : "", r->members[i].column, i + 1);
    buf_printf(&b, " WHERE %s=?1", r->members[0].column);
    struct arena *a = tx_arena(tx);
    struct value *args = arena_alloc(a, r->n * sizeof(*args));
    for (size_t i = 0; i < r->n; i++)
        args[i] = member_value(&r->members[i], obj, a);
    int64_t changes = 0;
    int rc = tx_exec(tx, sql_intern(buf_str(&b), "", ""), args, r->n, &changes, e);
    if (rc == OK && changes == 0)
        return err_set(e, ERR_NOT_FOUND, "no such row in %s", r->table);
    return rc;
}

static struct rows *record_query(struct tx *tx, const struct record *r, const char *tail,
                                 const struct value *args, size_t n)
{
    AUTO(buf) struct buf head = {0};
    buf_printf(&head, "SELECT %s FROM %s ", record_columns(r, NULL), r->table);
    return tx_query(tx, sql_intern(buf_str(&head), tail, ""), args, n);
}

int record_get(struct tx *tx, const struct record *r, const char *tail, const struct value *args,
               size_t n, struct arena *a, void *out, bool *found, struct err *e)
{
    struct rows *rows = record_query(tx, r, tail, args, n);
    int rc = OK;
    bool got = rows_next(rows);
    if (got)
        rc = record_read(r, rows, 0, a, out, e);
    int end = rows_end(rows, rc == OK ? e : NULL);
    if (rc != OK || end != OK)
        return rc != OK ? rc : end;
    if (found != NULL)
        *found = got;
    else if (!got)
        return err_set(e, ERR_NOT_FOUND, "no such row in %s", r->table);
    return OK;
}

int record_list(struct tx *tx, const struct record *r, const char *tail, const struct value *args,
                size_t n, struct arena *a, struct list *out, struct err *e)
{
    struct rows *rows = record_query(tx, r, tail, args, n);
    size_t cap = 0;
    struct list l = {0};
    int rc = OK;
    while (rc == OK && rows_next(rows)) {
        if (l.n == cap) {
            size_t more = cap > 0 ? cap * 2 : 16;
            char *grown = arena_alloc(a, more * r->size);
            if (l.n > 0)
                memcpy(grown, l.items, l.n * r->size);
            l.items = grown;
            cap = more;
        }
        rc = record_read(r, rows, 0, a, (char *)l.items + l.n * r->size, e);
        l.n++;
    }
    int end = rows_end(rows, rc == OK ? e : NULL);
    if (rc == OK && end == OK)
        *out = l;
    return rc != OK ? rc : end;
}

static int check_in_tx(struct tx *tx, void *ctx, struct err *e)
{
    const struct record *r = ctx;
    struct rows *rows = record_query(tx, r, "WHERE 1=0", NO_ARGS);
    rows_next(rows);
    return rows_end(rows, e);
}

int record_check(struct store *s, const struct record *r, struct err *e)
{
    if (store_read(s, check_in_tx, (void *)(uintptr_t)r, e) != OK)
        return err_wrap(e, "table %s does not match its record", r->table);
    return OK;
}

/* ---- ids ---- */

const char *id_text(const char *prefix, int64_t id, char to[ID_TEXT_SIZE])
{
    snprintf(to, ID_TEXT_SIZE, "%.4s-%lld", prefix, (long long)id);
    return to;
}

bool id_parse(const char *prefix, const char *text, int64_t *id)
{
    size_t n = strlen(prefix);
    if (strncmp(text, prefix, n) != 0 || text[n] != '-' || text[n + 1] == '-' || text[n + 1] == '0')
        return false;
    return str_int(text + n + 1, id);
}
