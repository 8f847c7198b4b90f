/* Parsing what comes in by view tables. The words of broken rules and their texts are those of
 * pydantic 2, because two documented surfaces promise them; the others print the same facts in
 * their own envelope. All broken rules of a request are collected, in table order. */
#include "core/view.h"

#include "base/str.h"
#include "base/world.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* ---- issues ---- */

void issues_enter(struct issues *is, const char *name, int64_t index)
{
    if (is->depth < ISSUE_LOC_MAX)
        is->at[is->depth] = (struct issue_loc){name, index};
    is->depth++;
}

void issues_leave(struct issues *is)
{
    is->depth--;
}

void issue_add(struct issues *is, const char *rule, const char *input, const char *ctx,
               const char *fmt, ...)
{
    if (is->n == ISSUES_MAX)
        return; /* enough to mend; the next attempt shows the rest */
    struct issue *i = &is->items[is->n++];
    *i = (struct issue){.rule = rule, .input = input, .ctx = ctx};
    i->depth = is->depth < ISSUE_LOC_MAX ? is->depth : ISSUE_LOC_MAX;
    memcpy(i->loc, is->at, (size_t)i->depth * sizeof(i->loc[0]));
    va_list ap;
    va_start(ap, fmt);
    struct err e;
    err_setv(&e, ERR_INVALID, fmt, ap);
    va_end(ap);
    i->message = arena_strdup(is->arena, e.text);
}

const char *issue_field(const struct issue *i, struct arena *a)
{
    AUTO(buf) struct buf b = {0};
    for (int k = i->depth > 1 ? 1 : 0; k < i->depth; k++) {
        if (b.len > 0)
            buf_addc(&b, '.');
        if (i->loc[k].name != NULL)
            buf_adds(&b, i->loc[k].name);
        else
            buf_printf(&b, "%lld", (long long)i->loc[k].index);
    }
    return arena_strdup(a, buf_str(&b));
}

/* ---- one value ---- */

struct parse {
    unsigned how;
    struct arena *a;
    struct issues *is;
};

/* "'a', 'b' or 'c'" */
static const char *expected(const char *const *names, struct arena *a)
{
    AUTO(buf) struct buf b = {0};
    for (int i = 0; names[i] != NULL; i++) {
        const char *sep = i == 0 ? "" : names[i + 1] == NULL ? " or " : ", ";
        buf_printf(&b, "%s'%s'", sep, names[i]);
    }
    return arena_strdup(a, buf_str(&b));
}

static const char *ctx_int(struct arena *a, const char *key, int64_t v)
{
    return arena_printf(a, "{\"%s\":%lld}", key, (long long)v);
}

static const char *quote(struct arena *a, const char *s)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_text(&j, s);
    return arena_strdup(a, buf_str(&b));
}

static bool has_bounds(const struct field *f)
{
    return f->min != 0 || f->max != 0;
}

static bool bounds_int(struct parse *p, const struct field *f, int64_t v, const char *input)
{
    if (!has_bounds(f))
        return true;
    if (v < f->min) {
        issue_add(p->is, "greater_than_equal", input, ctx_int(p->a, "ge", f->min),
                  "Input should be greater than or equal to %lld", (long long)f->min);
        return false;
    }
    if (f->max >= f->min && v > f->max) {
        issue_add(p->is, "less_than_equal", input, ctx_int(p->a, "le", f->max),
                  "Input should be less than or equal to %lld", (long long)f->max);
        return false;
    }
    return true;
}

static bool bounds_real(struct parse *p, const struct field *f, double v, const char *input)
{
    bool low = v < (double)f->min, high = f->max >= f->min && v > (double)f->max;
    if (!has_bounds(f) || (!low && !high))
        return true;
    int64_t bound = low ? f->min : f->max;
    issue_add(p->is, low ? "greater_than_equal" : "less_than_equal", input,
              ctx_int(p->a, low ? "ge" : "le", bound),
              low ? "Input should be greater than or equal to %lld"
                  : "Input should be less than or equal to %lld",
              (long long)bound);
    return false;
}

static bool bounds_text(struct parse *p, const struct field *f, const char *s, size_t n,
                        const char *input)
{
    size_t chars = utf8_len(s, n);
    if (chars == (size_t)-1 || memchr(s, '\0', n) != NULL) {
        issue_add(p->is, "value_error", input, NULL, "Value error, not printable text");
        return false;
    }
    if (!has_bounds(f))
        return true;
    if ((int64_t)chars < f->min) {
        issue_add(p->is, "string_too_short", input, ctx_int(p->a, "min_length", f->min),
                  f->min == 1 ? "String should have at least %lld character"
                              : "String should have at least %lld characters",
                  (long long)f->min);
        return false;
    }
    if (f->max >= f->min && (int64_t)chars > f->max) {
        issue_add(p->is, "string_too_long", input, ctx_int(p->a, "max_length", f->max),
                  f->max == 1 ? "String should have at most %lld character"
                              : "String should have at most %lld characters",
                  (long long)f->max);
        return false;
    }
    return true;
}

/* RFC 5321: local part up to 64, domain up to 255, one @, a dot in the domain. */
static bool email_ok(const char *s)
{
    const char *at = strrchr(s, '@');
    if (at == NULL || at == s || at - s > 64 || strlen(at + 1) > 255 || strchr(s, '@') != at)
        return false;
    for (const char *p = s; *p != '\0'; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f || strchr("()<>,;:\\\"[]", *p) != NULL)
            return false;
    if (s[0] == '.' || at[-1] == '.' || strstr(s, "..") != NULL)
        return false;
    const char *domain = at + 1;
    if (strcmp(domain, "localhost") == 0)
        return true;
    size_t n = strlen(domain);
    return n >= 3 && strchr(domain, '.') != NULL && domain[0] != '.' && domain[0] != '-' &&
           domain[n - 1] != '.' && domain[n - 1] != '-';
}

static bool parse_object(struct parse *p, const struct view *v, const struct jv *in, void *out);

static bool not_listed(struct parse *p, const struct field *f, const char *input)
{
    const char *words = expected(f->names, p->a);
    issue_add(p->is, "enum", input, arena_printf(p->a, "{\"expected\":%s}", quote(p->a, words)),
              "Input should be %s", words);
    return false;
}

static bool text_value(struct parse *p, const struct field *f, const char *s, size_t n,
                       const char *input, void *at)
{
    if (f->type == T_TEXT) {
        if (!bounds_text(p, f, s, n, input))
            return false;
        if ((f->flags & F_EMAIL) && !email_ok(s)) {
            issue_add(p->is, "value_error", input, NULL,
                      "value is not a valid email address: it needs one @ and a domain");
            return false;
        }
        *(const char **)at = arena_strndup(p->a, s, n);
        return true;
    }
    if (f->type == T_UUID) {
        if (!uuid_is(s)) {
            issue_add(p->is, "uuid_parsing", input, NULL,
                      "Input should be a valid UUID, it has 32 hexadecimal digits in groups of "
                      "8-4-4-4-12");
            return false;
        }
        char *low = arena_strndup(p->a, s, n);
        for (char *c = low; *c != '\0'; c++)
            if (*c >= 'A' && *c <= 'F')
                *c = (char)(*c + 32);
        *(const char **)at = low;
        return true;
    }
    if (f->type == T_TIME) {
        if (!time_parse(s, (int64_t *)at)) {
            issue_add(p->is, "datetime_parsing", input, NULL,
                      "Input should be a valid datetime in RFC 3339 form");
            return false;
        }
        return true;
    }
    if (f->type == T_ID && f->prefix[0] != '\0') {
        if (!id_parse(f->prefix, s, (int64_t *)at)) {
            issue_add(p->is, "value_error", input, NULL, "Value error, an id looks like %s-17",
                      f->prefix);
            return false;
        }
        return true;
    }
    /* T_ENUM */
    for (int i = 0; f->names[i] != NULL; i++)
        if (f->flags & F_ANYCASE ? str_eq_nocase(f->names[i], s) : strcmp(f->names[i], s) == 0) {
            *(int *)at = i;
            return true;
        }
    return not_listed(p, f, input);
}

static bool bounds_list(struct parse *p, const struct field *f, const struct jv *in)
{
    int64_t n = (int64_t)jv_len(in);
    bool low = n < f->min, high = f->max >= f->min && n > f->max;
    if (!has_bounds(f) || (!low && !high))
        return true;
    if (low)
        issue_add(p->is, "value_error", jv_dump(in, p->a), NULL,
                  "Value error, the list should have at least %lld items", (long long)f->min);
    else
        issue_add(p->is, "value_error", jv_dump(in, p->a), NULL,
                  "Value error, the list should have at most %lld items", (long long)f->max);
    return false;
}

static bool parse_texts(struct parse *p, const struct field *f, const struct jv *in, void *at)
{
    size_t n = jv_len(in);
    struct texts t = {.n = n, .items = arena_alloc(p->a, (n + 1) * sizeof(*t.items))};
    if (!bounds_list(p, f, in))
        return false;
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *s = jv_text(jv_at(in, i), &len);
        issues_enter(p->is, NULL, (int64_t)i);
        if (s == NULL) {
            issue_add(p->is, "string_type", jv_dump(jv_at(in, i), p->a), NULL,
                      "Input should be a valid string");
            ok = false;
        } else {
            struct field plain = {.type = T_TEXT};
            ok = text_value(p, &plain, s, len, jv_dump(jv_at(in, i), p->a), &t.items[i]) && ok;
        }
        issues_leave(p->is);
    }
    if (ok)
        *(struct texts *)at = t;
    return ok;
}

static bool parse_textmap(struct parse *p, const struct field *f, const struct jv *in, void *at)
{
    size_t n = jv_len(in);
    struct textmap m = {.keys = arena_alloc(p->a, (n + 1) * sizeof(*m.keys)),
                        .values = arena_alloc(p->a, (n + 1) * sizeof(*m.values))};
    (void)f;
    bool ok = true;
    const char *name;
    const struct jv *value;
    for (const void *it = NULL; (it = jv_next(in, it, &name, &value)) != NULL;) {
        size_t len;
        const char *s = jv_text(value, &len);
        issues_enter(p->is, arena_strdup(p->a, name), 0);
        if (s == NULL) {
            issue_add(p->is, "string_type", jv_dump(value, p->a), NULL,
                      "Input should be a valid string");
            ok = false;
        } else {
            struct field plain = {.type = T_TEXT};
            m.keys[m.n] = arena_strdup(p->a, name);
            ok = text_value(p, &plain, s, len, jv_dump(value, p->a), &m.values[m.n++]) && ok;
        }
        issues_leave(p->is);
    }
    if (ok)
        *(struct textmap *)at = m;
    return ok;
}

static bool parse_list(struct parse *p, const struct field *f, const struct jv *in, void *at)
{
    size_t n = jv_len(in);
    if (!bounds_list(p, f, in))
        return false;
    struct list l = {.n = n, .items = arena_alloc(p->a, n * f->of->size + 1)};
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        issues_enter(p->is, NULL, (int64_t)i);
        ok = parse_object(p, f->of, jv_at(in, i), (char *)l.items + i * f->of->size) && ok;
        issues_leave(p->is);
    }
    if (ok)
        *(struct list *)at = l;
    return ok;
}

static bool wrong_type(struct parse *p, const struct jv *in, const char *rule, const char *text)
{
    issue_add(p->is, rule, jv_dump(in, p->a), NULL, "%s", err_tr(text));
    return false;
}

static bool parse_value(struct parse *p, const struct field *f, const struct jv *in, void *at)
{
    enum jv_kind kind = jv_kind(in);
    size_t n = 0;
    const char *s = jv_text(in, &n);
    bool lax_text = (p->how & PARSE_LAX) && s != NULL;
    switch (f->type) {
    case T_BOOL:
        if (kind == JV_BOOL) {
            *(bool *)at = jv_bool(in);
            return true;
        }
        if (lax_text || ((p->how & PARSE_LAX) && kind == JV_INT)) {
            static const char *const yes[] = {"true", "1", "yes", "on", "t", "y"};
            static const char *const no[] = {"false", "0", "no", "off", "f", "n"};
            const char *word = s != NULL ? s : jv_int(in) == 1 ? "1" : jv_int(in) == 0 ? "0" : "";
            for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
                if (!str_eq_nocase(word, yes[i]) && !str_eq_nocase(word, no[i]))
                    continue;
                *(bool *)at = str_eq_nocase(word, yes[i]);
                return true;
            }
        }
        return wrong_type(p, in, "bool_parsing",
                          "Input should be a valid boolean, unable to interpret input");
    case T_INT:
    case T_ID: {
        int64_t v;
        if (f->type == T_ID && f->prefix[0] != '\0') {
            if (s == NULL)
                return wrong_type(p, in, "string_type", "Input should be a valid string");
            return text_value(p, f, s, n, jv_dump(in, p->a), at);
        }
        if (kind == JV_INT) {
            v = jv_int(in);
        } else if (kind == JV_REAL && floor(jv_real(in)) == jv_real(in) &&
                   fabs(jv_real(in)) < 9e15) {
            v = (int64_t)jv_real(in);
        } else if (lax_text) {
            if (!str_int(s, &v))
                return wrong_type(
                    p, in, "int_parsing",
                    "Input should be a valid integer, unable to parse string as an integer");
        } else {
            return wrong_type(p, in, "int_type", "Input should be a valid integer");
        }
        if (!bounds_int(p, f, v, jv_dump(in, p->a)))
            return false;
        *(int64_t *)at = v;
        return true;
    }
    case T_REAL: {
        double v;
        if (kind == JV_INT || kind == JV_REAL) {
            v = jv_real(in);
        } else if (!lax_text) {
            return wrong_type(p, in, "float_parsing", "Input should be a valid number");
        } else if (!str_real(s, &v)) {
            return wrong_type(p, in, "float_parsing",
                              "Input should be a valid number, unable to parse string as a number");
        }
        if (!bounds_real(p, f, v, jv_dump(in, p->a)))
            return false;
        *(double *)at = v;
        return true;
    }
    case T_TEXT:
    case T_UUID:
    case T_TIME:
    case T_ENUM:
        if (s == NULL && f->type == T_ENUM)
            return not_listed(p, f, jv_dump(in, p->a));
        if (s == NULL)
            return wrong_type(p, in, "string_type", "Input should be a valid string");
        return text_value(p, f, s, n, jv_dump(in, p->a), at);
    case T_JSON:
        if (kind != JV_OBJECT)
            return wrong_type(p, in, "dict_type", "Input should be a valid dictionary");
        *(const char **)at = jv_dump(in, p->a);
        return true;
    case T_TEXTS:
        if (kind != JV_LIST)
            return wrong_type(p, in, "list_type", "Input should be a valid list");
        return parse_texts(p, f, in, at);
    case T_TEXTMAP:
        if (kind != JV_OBJECT)
            return wrong_type(p, in, "dict_type", "Input should be a valid dictionary");
        return parse_textmap(p, f, in, at);
    case T_OBJECT:
        if (!(f->flags & F_POINTER))
            return parse_object(p, f->of, in, at);
        *(void **)at = arena_alloc(p->a, f->of->size);
        return parse_object(p, f->of, in, *(void **)at);
    case T_LIST:
        if (kind != JV_LIST)
            return wrong_type(p, in, "list_type", "Input should be a valid list");
        return parse_list(p, f, in, at);
    case T_NONE:
        break;
    }
    return false;
}

static void set_null(const struct field *f, void *at)
{
    switch (f->type) {
    case T_INT:
        *(int64_t *)at = INT_NULL;
        break;
    case T_REAL:
        *(double *)at = NAN;
        break;
    case T_ENUM:
        *(int *)at = -1;
        break;
    default:
        break; /* zeroed memory is null */
    }
}

/* Defaults are JSON text in the table, parsed by the same code as what people send. */
static void set_default(struct parse *p, const struct field *f, void *at)
{
    set_null(f, at);
    if (f->def == NULL)
        return;
    AUTO(jv) struct jv *v = NULL;
    struct err e;
    if (jv_parse(f->def, strlen(f->def), &v, NULL, &e) == OK && jv_kind(v) != JV_NULL)
        parse_value(p, f, v, at);
}

static bool known(const struct view *v, const char *name)
{
    for (size_t i = 0; i < v->n; i++)
        if (strcmp(v->fields[i].name, name) == 0)
            return true;
    return false;
}

static bool parse_object(struct parse *p, const struct view *v, const struct jv *in, void *out)
{
    if (jv_kind(in) != JV_OBJECT)
        return wrong_type(p, in, "dict_type", "Input should be a valid dictionary");
    bool ok = true;
    uint64_t seen = 0;
    for (size_t i = 0; i < v->n; i++) {
        const struct field *f = &v->fields[i];
        void *at = (char *)out + f->offset;
        if (f->get != NULL || (f->flags & F_FORM))
            continue;
        const struct jv *value = jv_get(in, f->name);
        set_default(p, f, at);
        if (value == NULL) {
            if (!(f->flags & F_REQUIRED))
                continue;
            issues_enter(p->is, f->name, 0);
            issue_add(p->is, "missing", jv_dump(in, p->a), NULL, "Field required");
            issues_leave(p->is);
            ok = false;
            continue;
        }
        seen |= UINT64_C(1) << i;
        if (jv_kind(value) == JV_NULL && (f->flags & F_NULL)) {
            set_null(f, at);
            continue;
        }
        issues_enter(p->is, f->name, 0);
        ok = parse_value(p, f, value, at) && ok;
        issues_leave(p->is);
    }
    if (p->how & PARSE_CLOSED) {
        const char *name;
        const struct jv *value;
        for (const void *it = NULL; (it = jv_next(in, it, &name, &value)) != NULL;) {
            if (known(v, name))
                continue;
            issues_enter(p->is, arena_strdup(p->a, name), 0);
            issue_add(p->is, "extra_forbidden", NULL, NULL, "There is no such field");
            issues_leave(p->is);
            ok = false;
        }
    }
    if (v->flags & VIEW_SEEN)
        *(uint64_t *)out = seen;
    return ok;
}

bool view_parse(const struct view *v, const struct jv *in, unsigned how, void *out, struct arena *a,
                struct issues *is)
{
    memset(out, 0, v->size);
    struct parse p = {how, a, is};
    return parse_object(&p, v, in, out);
}

/* ---- name=value texts ---- */

static bool pair_value(struct parse *p, const struct field *f, const char *s, void *at)
{
    const char *input = quote(p->a, s);
    switch (f->type) {
    case T_INT:
    case T_ID:
        if (f->type == T_INT || f->prefix[0] == '\0') {
            int64_t v;
            if (!str_int(s, &v)) {
                issue_add(p->is, "int_parsing", input, NULL,
                          "Input should be a valid integer, unable to parse string as an integer");
                return false;
            }
            if (!bounds_int(p, f, v, input))
                return false;
            *(int64_t *)at = v;
            return true;
        }
        return text_value(p, f, s, strlen(s), input, at);
    case T_REAL: {
        double v;
        if (!str_real(s, &v)) {
            issue_add(p->is, "float_parsing", input, NULL,
                      "Input should be a valid number, unable to parse string as a number");
            return false;
        }
        if (!bounds_real(p, f, v, input))
            return false;
        *(double *)at = v;
        return true;
    }
    case T_BOOL: {
        bool yes = str_eq_nocase(s, "true") || strcmp(s, "1") == 0 || str_eq_nocase(s, "yes") ||
                   str_eq_nocase(s, "on");
        bool no = str_eq_nocase(s, "false") || strcmp(s, "0") == 0 || str_eq_nocase(s, "no") ||
                  str_eq_nocase(s, "off");
        if (!yes && !no) {
            issue_add(p->is, "bool_parsing", input, NULL,
                      "Input should be a valid boolean, unable to interpret input");
            return false;
        }
        *(bool *)at = yes;
        return true;
    }
    case T_TEXTS: {
        struct texts *t = at;
        size_t n = t->n + 1;
        for (const char *c = s; *c != '\0'; c++)
            n += *c == ',';
        const char **items = arena_alloc(p->a, (n + 1) * sizeof(*items));
        if (t->n > 0)
            memcpy(items, t->items, t->n * sizeof(*items));
        size_t k = t->n;
        for (const char *c = s;; c++) {
            size_t len = strcspn(c, ",");
            struct field plain = {.type = T_TEXT};
            if (len > 0 && !text_value(p, &plain, c, len, input, &items[k++]))
                return false;
            c += len;
            if (*c == '\0')
                break;
        }
        *t = (struct texts){items, k};
        return true;
    }
    default:
        return text_value(p, f, s, strlen(s), input, at);
    }
}

bool view_parse_pairs(const struct view *v, const struct pair *pairs, size_t n, unsigned how,
                      void *out, struct arena *a, struct issues *is)
{
    memset(out, 0, v->size);
    struct parse p = {how, a, is};
    bool ok = true;
    uint64_t seen = 0;
    for (size_t i = 0; i < v->n; i++) {
        const struct field *f = &v->fields[i];
        void *at = (char *)out + f->offset;
        if (f->get != NULL || (f->flags & F_FORM))
            continue;
        set_default(&p, f, at);
        size_t last = n;
        for (size_t k = 0; k < n; k++) {
            if (strcmp(pairs[k].name, f->name) != 0)
                continue;
            if (f->type != T_TEXTS) {
                last = k;
                continue;
            }
            if (last == n)
                *(struct texts *)at = (struct texts){0};
            last = k;
            issues_enter(is, f->name, 0);
            ok = pair_value(&p, f, pairs[k].value, at) && ok;
            issues_leave(is);
        }
        if (last == n) {
            if (!(f->flags & F_REQUIRED))
                continue;
            issues_enter(is, f->name, 0);
            issue_add(is, "missing", NULL, NULL, "Field required");
            issues_leave(is);
            ok = false;
            continue;
        }
        seen |= UINT64_C(1) << i;
        if (f->type == T_TEXTS)
            continue;
        issues_enter(is, f->name, 0);
        ok = pair_value(&p, f, pairs[last].value, at) && ok;
        issues_leave(is);
    }
    for (size_t k = 0; (how & PARSE_CLOSED) && k < n; k++) {
        if (known(v, pairs[k].name))
            continue;
        issues_enter(is, pairs[k].name, 0);
        issue_add(is, "extra_forbidden", NULL, NULL, "There is no such field");
        issues_leave(is);
        ok = false;
    }
    if (v->flags & VIEW_SEEN)
        *(uint64_t *)out = seen;
    return ok;
}
