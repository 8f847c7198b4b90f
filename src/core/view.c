/* Views: linking, output, and the JSON Schema made of them. Parsing is in view_in.c. */
#include "core/view.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int link_fields(const struct view *v, struct err *e)
{
    for (size_t i = 0; i < v->n; i++) {
        struct field *f = &v->fields[i];
        int rc = f->of != NULL ? view_link(f->of, e) : OK;
        if (rc != OK)
            return rc;
        if (f->get != NULL || (f->type != T_NONE && f->type != T_ENUM && f->type != T_ID))
            continue;
        if (f->type != T_NONE && (f->names != NULL || f->prefix != NULL))
            continue;
        const struct member *m = NULL;
        for (size_t k = 0; v->record != NULL && k < v->record->n; k++)
            if (v->record->members[k].offset == f->offset)
                m = &v->record->members[k];
        if (m == NULL)
            return err_set(e, ERR_INTERNAL, "view %s: field %s has no type and no member", v->name,
                           f->name);
        f->type = m->type;
        f->flags |= m->flags & M_NULL ? F_NULL : 0;
        f->flags |= m->flags & M_TOLD ? F_TOLD : 0;
        if (m->flags & M_SECRET)
            return err_set(e, ERR_INTERNAL, "view %s shows the secret %s", v->name, m->column);
        if (f->min == 0 && f->max == 0) {
            f->min = m->min;
            f->max = m->max;
        }
        f->names = f->names != NULL ? f->names : m->names;
        f->prefix = f->prefix != NULL ? f->prefix : m->prefix;
        f->doc = f->doc != NULL ? f->doc : m->doc;
    }
    return OK;
}

int view_link(const struct view *v, struct err *e)
{
    if (v == NULL || v->n == 0 || v->fields[0].name != NULL)
        return OK;
    if (v->n > 64)
        return err_set(e, ERR_INTERNAL, "view %s has more than 64 fields", v->name);
    memcpy(v->fields, v->raw, v->n * sizeof(*v->fields));
    int rc = link_fields(v, e);
    if (rc != OK)
        v->fields[0].name = NULL; /* so that asking again fails again */
    return rc;
}

/* ---- output ---- */

static bool field_null(const struct field *f, const void *at)
{
    switch (f->type) {
    case T_INT:
        return *(const int64_t *)at == INT_NULL;
    case T_TIME:
    case T_ID:
        return *(const int64_t *)at == 0;
    case T_REAL:
        return isnan(*(const double *)at);
    case T_ENUM:
        return *(const int *)at < 0;
    case T_TEXT:
    case T_UUID:
    case T_JSON:
        return *(const char *const *)at == NULL;
    case T_TEXTS:
        return (f->flags & F_NULL) && ((const struct texts *)at)->items == NULL;
    case T_TEXTMAP:
        return (f->flags & F_NULL) && ((const struct textmap *)at)->keys == NULL;
    case T_OBJECT:
        return (f->flags & F_POINTER) && *(void *const *)at == NULL;
    case T_BOOL:
        return (f->flags & F_SOMETIMES) && !*(const bool *)at;
    case T_NONE:
    case T_LIST:
        break;
    }
    return false;
}

static void write_field(struct json *j, const struct field *f, const void *at)
{
    char id[ID_TEXT_SIZE];
    switch (f->type) {
    case T_BOOL:
        json_bool(j, *(const bool *)at);
        break;
    case T_INT:
        json_int(j, *(const int64_t *)at);
        break;
    case T_REAL:
        json_real(j, *(const double *)at);
        break;
    case T_TIME:
        json_time(j, *(const int64_t *)at);
        break;
    case T_ID:
        if (f->prefix[0] == '\0')
            json_int(j, *(const int64_t *)at);
        else
            json_text(j, id_text(f->prefix, *(const int64_t *)at, id));
        break;
    case T_ENUM:
        json_text(j, f->names[*(const int *)at]);
        break;
    case T_TEXT:
    case T_UUID:
        if (f->flags & F_TOLD && err_lang() != LANG_EN) {
            AUTO(buf) struct buf told = {0};
            err_retell(&told, *(const char *const *)at);
            json_text(j, buf_str(&told));
        } else {
            json_text(j, *(const char *const *)at);
        }
        break;
    case T_JSON:
        json_raw(j, *(const char *const *)at);
        break;
    case T_TEXTS: {
        const struct texts *t = at;
        json_open(j, '[');
        for (size_t i = 0; i < t->n; i++)
            json_text(j, t->items[i]);
        json_close(j, ']');
        break;
    }
    case T_TEXTMAP: {
        const struct textmap *m = at;
        json_open(j, '{');
        for (size_t i = 0; i < m->n; i++)
            json_ktext(j, m->keys[i], m->values[i]);
        json_close(j, '}');
        break;
    }
    case T_OBJECT:
        view_write(j, f->of, f->flags & F_POINTER ? *(const void *const *)at : at);
        break;
    case T_LIST:
        view_write_list(j, f->of, at);
        break;
    case T_NONE:
        json_null(j);
        break;
    }
}

void view_write(struct json *j, const struct view *v, const void *obj)
{
    json_open(j, '{');
    for (size_t i = 0; i < v->n; i++) {
        const struct field *f = &v->fields[i];
        const char *at = (const char *)obj + f->offset;
        if (f->get != NULL) {
            json_key(j, f->name);
            f->get(j, obj);
            continue;
        }
        bool null = field_null(f, at);
        if (null && (f->flags & F_SOMETIMES))
            continue;
        json_key(j, f->name);
        if (null)
            json_null(j);
        else
            write_field(j, f, at);
    }
    json_close(j, '}');
}

void view_write_list(struct json *j, const struct view *v, const struct list *l)
{
    json_open(j, '[');
    for (size_t i = 0; i < l->n; i++)
        view_write(j, v, (const char *)l->items + i * v->size);
    json_close(j, ']');
}

/* ---- JSON Schema (2020-12, as OpenAPI 3.1 uses it) ---- */

static void schema_type(struct json *j, const char *type, bool null)
{
    json_key(j, "type");
    if (!null) {
        json_text(j, type);
        return;
    }
    json_open(j, '[');
    json_text(j, type);
    json_text(j, "null");
    json_close(j, ']');
}

/* Rules of what is sent: an answer may show what another way made. */
static void schema_bounds(struct json *j, const struct field *f, bool input, const char *least,
                          const char *most)
{
    if (!input || (f->min == 0 && f->max == 0))
        return;
    json_kint(j, least, f->min);
    if (f->max >= f->min)
        json_kint(j, most, f->max);
}

static void schema_ref(struct json *j, const struct view *v, bool input)
{
    char ref[160];
    snprintf(ref, sizeof(ref), "#/components/schemas/%s%s", v->name, input ? "Input" : "");
    json_open(j, '{');
    json_ktext(j, "$ref", ref);
    json_close(j, '}');
}

static void schema_field(struct json *j, const struct field *f, bool input)
{
    bool null = f->flags & F_NULL;
    if (f->schema != NULL) {
        json_raw(j, f->schema);
        return;
    }
    if (f->of != NULL && f->type != T_LIST) {
        if (!null && (input || !(f->flags & F_POINTER))) {
            schema_ref(j, f->of, input);
            return;
        }
        json_open(j, '{');
        json_key(j, "anyOf");
        json_open(j, '[');
        schema_ref(j, f->of, input);
        json_raw(j, "{\"type\":\"null\"}");
        json_close(j, ']');
        json_close(j, '}');
        return;
    }
    json_open(j, '{');
    switch (f->type) {
    case T_BOOL:
        schema_type(j, "boolean", null);
        break;
    case T_INT:
        schema_type(j, "integer", null);
        schema_bounds(j, f, input, "minimum", "maximum");
        break;
    case T_REAL:
        schema_type(j, "number", null);
        schema_bounds(j, f, input, "minimum", "maximum");
        break;
    case T_TEXT:
        schema_type(j, "string", null);
        schema_bounds(j, f, input, "minLength", "maxLength");
        break;
    case T_UUID:
        schema_type(j, "string", null);
        json_ktext(j, "format", "uuid");
        break;
    case T_TIME:
        schema_type(j, "string", null);
        json_ktext(j, "format", "date-time");
        break;
    case T_ID:
        if (f->prefix[0] == '\0') {
            schema_type(j, "integer", null);
        } else {
            char pattern[32];
            schema_type(j, "string", null);
            snprintf(pattern, sizeof(pattern), "^%.8s-[1-9][0-9]*$", f->prefix);
            json_ktext(j, "pattern", pattern);
        }
        break;
    case T_ENUM: {
        schema_type(j, "string", null);
        json_key(j, "enum");
        json_open(j, '[');
        for (int i = 0; f->names[i] != NULL; i++) {
            bool again = false; /* a state mapping may send several states to one word */
            for (int k = 0; k < i; k++)
                again |= strcmp(f->names[k], f->names[i]) == 0;
            if (!again)
                json_text(j, f->names[i]);
        }
        if (null)
            json_null(j);
        json_close(j, ']');
        break;
    }
    case T_TEXTS:
        schema_type(j, "array", null);
        json_raw((json_key(j, "items"), j), "{\"type\":\"string\"}");
        schema_bounds(j, f, input, "minItems", "maxItems");
        break;
    case T_TEXTMAP:
        schema_type(j, "object", null);
        json_raw((json_key(j, "additionalProperties"), j), "{\"type\":\"string\"}");
        break;
    case T_LIST:
        schema_type(j, "array", null && input);
        json_key(j, "items");
        schema_ref(j, f->of, input);
        schema_bounds(j, f, input, "minItems", "maxItems");
        break;
    case T_JSON:
    case T_NONE:
    case T_OBJECT:
        break;
    }
    if (f->doc != NULL)
        json_ktext(j, "description", f->doc);
    if (input && f->def != NULL)
        json_raw((json_key(j, "default"), j), f->def);
    json_close(j, '}');
}

void view_schema(struct json *j, const struct view *v, bool input)
{
    json_open(j, '{');
    json_ktext(j, "type", "object");
    if (v->doc != NULL)
        json_ktext(j, "description", v->doc);
    json_key(j, "properties");
    json_open(j, '{');
    for (size_t i = 0; i < v->n; i++) {
        json_key(j, v->fields[i].name);
        schema_field(j, &v->fields[i], input);
    }
    json_close(j, '}');
    json_key(j, "required");
    json_open(j, '[');
    for (size_t i = 0; i < v->n; i++)
        if (input ? v->fields[i].flags & F_REQUIRED : !(v->fields[i].flags & F_SOMETIMES))
            json_text(j, v->fields[i].name);
    json_close(j, ']');
    if (!(v->flags & VIEW_OPEN))
        json_kbool(j, "additionalProperties", false);
    json_close(j, '}');
}
