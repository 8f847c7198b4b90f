/* libyaml's events, made into a tree. Its own limits are its own; ours are depth, node count by
 * the size of the file, and the refusal of everything a job file has no use for.
 */
#include "cli/yaml.h"

#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 16 };

struct reader {
    yaml_parser_t parser;
    const char *name;
    struct arena *a;
    struct err *e;
};

static int fault(struct reader *r, int line, const char *what)
{
    return err_set(r->e, ERR_INVALID, "%s:%d: %s", r->name, line, err_tr(what));
}

static int next_event(struct reader *r, yaml_event_t *ev)
{
    if (yaml_parser_parse(&r->parser, ev) == 1)
        return OK;
    int line = (int)r->parser.problem_mark.line + 1;
    const char *why = r->parser.problem != NULL ? r->parser.problem : "not valid YAML";
    if (r->parser.error == YAML_READER_ERROR)
        return fault(r, line, "the file is not UTF-8 text");
    return fault(r, line, why);
}

static int read_node(struct reader *r, const yaml_event_t *ev, int depth, struct yaml **out);

static bool has_extras(const yaml_char_t *anchor, const yaml_char_t *tag)
{
    return anchor != NULL || tag != NULL;
}

/* Members up to the end of the list or map that has just begun. */
static int read_members(struct reader *r, struct yaml *parent, int depth)
{
    struct yaml **last = &parent->first;
    for (;;) {
        yaml_event_t ev;
        struct yaml *key = NULL, *value = NULL;
        int k = next_event(r, &ev);
        if (k != OK)
            return k;
        bool end = ev.type == YAML_SEQUENCE_END_EVENT || ev.type == YAML_MAPPING_END_EVENT;
        if (!end)
            k = read_node(r, &ev, depth + 1, parent->kind == YAML_MAP ? &key : &value);
        yaml_event_delete(&ev);
        if (end || k != OK)
            return k;
        if (parent->kind == YAML_MAP) {
            if (key->kind != YAML_SCALAR)
                return fault(r, key->line, "a key must be plain text");
            for (struct yaml *m = parent->first; m != NULL; m = m->next)
                if (strcmp(m->key, key->text) == 0)
                    return err_set(r->e, ERR_INVALID,
                                   "%s:%d: \"%s\" is there twice (first in line %d)", r->name,
                                   key->line, key->text, m->line);
            if ((k = next_event(r, &ev)) != OK)
                return k;
            k = read_node(r, &ev, depth + 1, &value);
            yaml_event_delete(&ev);
            if (k != OK)
                return k;
            value->key = key->text;
            value->line = key->line;
        }
        *last = value;
        last = &value->next;
    }
}

static int read_node(struct reader *r, const yaml_event_t *ev, int depth, struct yaml **out)
{
    struct yaml *y = arena_alloc(r->a, sizeof(*y));
    y->line = (int)ev->start_mark.line + 1;
    if (depth > DEPTH_MAX)
        return fault(r, y->line, "nested too deeply");
    bool extras = false;
    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        y->kind = YAML_SCALAR;
        y->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        extras = has_extras(ev->data.scalar.anchor, ev->data.scalar.tag);
        if (memchr(ev->data.scalar.value, '\0', ev->data.scalar.length) != NULL)
            return fault(r, y->line, "text must not contain NUL");
        y->text = arena_strndup(r->a, (const char *)ev->data.scalar.value, ev->data.scalar.length);
        break;
    case YAML_SEQUENCE_START_EVENT:
        y->kind = YAML_LIST;
        extras = has_extras(ev->data.sequence_start.anchor, ev->data.sequence_start.tag);
        break;
    case YAML_MAPPING_START_EVENT:
        y->kind = YAML_MAP;
        extras = has_extras(ev->data.mapping_start.anchor, ev->data.mapping_start.tag);
        break;
    default:
        extras = true; /* an alias */
        break;
    }
    if (extras)
        return fault(r, y->line, "anchors, aliases and tags are not used in job files");
    *out = y;
    return y->kind == YAML_SCALAR ? OK : read_members(r, y, depth);
}

static int read_document(struct reader *r, struct yaml **out)
{
    yaml_event_t ev;
    struct yaml *root = NULL;
    for (;;) {
        int k = next_event(r, &ev);
        if (k != OK)
            return k;
        yaml_event_type_t type = ev.type;
        int line = (int)ev.start_mark.line + 1;
        bool is_node = type == YAML_SCALAR_EVENT || type == YAML_SEQUENCE_START_EVENT ||
                       type == YAML_MAPPING_START_EVENT || type == YAML_ALIAS_EVENT;
        if (is_node)
            k = read_node(r, &ev, 0, &root);
        yaml_event_delete(&ev);
        if (k != OK)
            return k;
        if (type == YAML_DOCUMENT_START_EVENT && root != NULL)
            return fault(r, line, "one file describes one job");
        if (type == YAML_STREAM_END_EVENT)
            break;
    }
    if (root == NULL)
        return fault(r, 1, "the file is empty");
    *out = root;
    return OK;
}

int yaml_parse(const char *name, const char *text, size_t n, struct arena *a, struct yaml **out,
               struct err *e)
{
    struct reader r = {.name = name, .a = a, .e = e};
    if (n > YAML_SIZE_MAX)
        return err_set(e, ERR_TOO_LARGE, "%s is larger than %d KiB", name, YAML_SIZE_MAX >> 10);
    if (yaml_parser_initialize(&r.parser) != 1)
        return err_set(e, ERR_INTERNAL, "the YAML reader does not start");
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    int k = read_document(&r, out);
    yaml_parser_delete(&r.parser);
    return k;
}

bool yaml_is_null(const struct yaml *y)
{
    return y->kind == YAML_SCALAR && !y->quoted &&
           (*y->text == '\0' || strcmp(y->text, "~") == 0 || strcmp(y->text, "null") == 0);
}
