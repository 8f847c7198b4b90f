/* jansson, wrapped: the only file that includes it for the server. */
#include "io/json_in.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define IN(v) ((const json_t *)(v))

/* Of base/json.h, whose other names are also jansson's. */
const char *json_real_text(double v, char to[32]);

int jv_parse(const char *text, size_t n, struct jv **out, size_t *at, struct err *e)
{
    json_error_t fault;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
    if (root == NULL) {
        if (at != NULL)
            *at = fault.position > 0 ? (size_t)fault.position : 0;
        return err_set(e, ERR_MALFORMED, "not valid JSON: %s", fault.text);
    }
    *out = (struct jv *)root;
    return OK;
}

void jv_free(struct jv *root)
{
    json_decref((json_t *)root);
}

enum jv_kind jv_kind(const struct jv *v)
{
    if (v == NULL)
        return JV_NULL;
    switch (json_typeof(IN(v))) {
    case JSON_OBJECT:
        return JV_OBJECT;
    case JSON_ARRAY:
        return JV_LIST;
    case JSON_STRING:
        return JV_TEXT;
    case JSON_INTEGER:
        return JV_INT;
    case JSON_REAL:
        return JV_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return JV_BOOL;
    case JSON_NULL:
        break;
    }
    return JV_NULL;
}

bool jv_bool(const struct jv *v)
{
    return v != NULL && json_is_true(IN(v));
}

int64_t jv_int(const struct jv *v)
{
    return json_is_real(IN(v)) ? (int64_t)json_real_value(IN(v)) : json_integer_value(IN(v));
}

double jv_real(const struct jv *v)
{
    return json_number_value(IN(v));
}

const char *jv_text(const struct jv *v, size_t *n)
{
    if (v == NULL || !json_is_string(IN(v)))
        return NULL;
    if (n != NULL)
        *n = json_string_length(IN(v));
    return json_string_value(IN(v));
}

size_t jv_len(const struct jv *v)
{
    return json_is_array(IN(v)) ? json_array_size(IN(v)) : json_object_size(IN(v));
}

const struct jv *jv_at(const struct jv *list, size_t i)
{
    return (const struct jv *)json_array_get(IN(list), i);
}

const struct jv *jv_get(const struct jv *object, const char *name)
{
    return (const struct jv *)json_object_get(IN(object), name);
}

const void *jv_next(const struct jv *object, const void *it, const char **name,
                    const struct jv **value)
{
    json_t *o = (json_t *)(uintptr_t)object;
    void *at = it == NULL ? json_object_iter(o) : json_object_iter_next(o, (void *)(uintptr_t)it);
    if (at != NULL) {
        *name = json_object_iter_key(at);
        *value = (const struct jv *)json_object_iter_value(at);
    }
    return at;
}

/* Not jansson's own: that prints 0.1 as 0.10000000000000001. Depth is bounded by the parser. */
static void dump_text(const json_t *v, struct buf *b)
{
    char *quoted = json_dumps(v, JSON_ENCODE_ANY);
    buf_adds(b, quoted != NULL ? quoted : "null");
    free(quoted);
}

static void dump(const json_t *v, struct buf *b)
{
    const char *sep = "";
    char text[32];
    switch (v != NULL ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT: {
        json_t *o = (json_t *)(uintptr_t)v;
        buf_addc(b, '{');
        for (void *it = json_object_iter(o); it != NULL; it = json_object_iter_next(o, it)) {
            json_t *name = json_string(json_object_iter_key(it));
            buf_adds(b, sep);
            dump_text(name, b);
            json_decref(name);
            buf_addc(b, ':');
            dump(json_object_iter_value(it), b);
            sep = ",";
        }
        buf_addc(b, '}');
        return;
    }
    case JSON_ARRAY:
        buf_addc(b, '[');
        for (size_t i = 0; i < json_array_size(v); i++) {
            buf_adds(b, sep);
            dump(json_array_get(v, i), b);
            sep = ",";
        }
        buf_addc(b, ']');
        return;
    case JSON_STRING:
        dump_text(v, b);
        return;
    case JSON_INTEGER:
        buf_printf(b, "%lld", (long long)json_integer_value(v));
        return;
    case JSON_REAL:
        buf_adds(b, json_real_text(json_real_value(v), text));
        return;
    case JSON_TRUE:
    case JSON_FALSE:
        buf_adds(b, json_is_true(v) ? "true" : "false");
        return;
    case JSON_NULL:
        break;
    }
    buf_adds(b, "null");
}

char *jv_dump(const struct jv *v, struct arena *a)
{
    AUTO(buf) struct buf b = {0};
    dump(IN(v), &b);
    return arena_strdup(a, buf_str(&b));
}

const char *jv_get_text(const struct jv *object, const char *name)
{
    return jv_text(jv_get(object, name), NULL);
}

int64_t jv_get_int(const struct jv *object, const char *name, int64_t otherwise)
{
    const struct jv *v = jv_get(object, name);
    return jv_kind(v) == JV_INT ? jv_int(v) : otherwise;
}

double jv_get_real(const struct jv *object, const char *name, double otherwise)
{
    const struct jv *v = jv_get(object, name);
    return jv_kind(v) == JV_INT || jv_kind(v) == JV_REAL ? jv_real(v) : otherwise;
}

bool jv_get_bool(const struct jv *object, const char *name, bool otherwise)
{
    const struct jv *v = jv_get(object, name);
    return jv_kind(v) == JV_BOOL ? jv_bool(v) : otherwise;
}
