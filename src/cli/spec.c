/* A job's description. The members that a file may have are one table; its faults are told with
 * their line. The server checks all of it again; what is checked here is what it cannot say with
 * a line number or what only this side knows (durations, amounts, the environment).
 */
#include "cli/spec.h"

#include "cli/yaml.h"

#include "base/json.h"
#include "base/str.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void spec_init(struct spec *s)
{
    *s = (struct spec){.gpus = SPEC_ABSENT,
                       .cpus = SPEC_ABSENT,
                       .memory_mib = SPEC_ABSENT,
                       .time_limit_s = SPEC_ABSENT,
                       .retries = SPEC_ABSENT};
}

static void pair_set(struct pair **list, const char *name, const char *value, struct arena *a)
{
    for (; *list != NULL; list = &(*list)->next)
        if (strcmp((*list)->name, name) == 0) {
            (*list)->value = value;
            return;
        }
    *list = arena_alloc(a, sizeof(**list));
    **list = (struct pair){.name = name, .value = value};
}

/* Rounded up to whole MiB: who asks for 100K gets a limit, not none. */
static int64_t to_mib(int64_t bytes)
{
    return bytes / (1 << 20) + (bytes % (1 << 20) != 0);
}

static int64_t to_seconds(int64_t us)
{
    return us / 1000000 + (us % 1000000 != 0);
}

/* "RTX4090,A6000" */
static int set_gpu_types(struct spec *s, const char *list, struct arena *a, struct err *e)
{
    s->n_gpu_types = 0;
    while (*list != '\0') {
        size_t n = strcspn(list, ",");
        if (n > 0) {
            if (s->n_gpu_types == GPU_TYPES_MAX)
                return err_set(e, ERR_INVALID, "more than %d GPU types are too many",
                               (int)GPU_TYPES_MAX);
            s->gpu_types[s->n_gpu_types++] = arena_strndup(a, list, n);
        }
        list += n + (list[n] == ',');
    }
    return OK;
}

/* ---- from a file ---- */

struct source {
    const char *name;
    struct arena *a;
    struct err *e;
};

static int fault(const struct source *src, const struct yaml *y, const char *must)
{
    return err_set(src->e, ERR_INVALID, "%s:%d: %s must be %s", src->name, y->line,
                   y->key != NULL ? y->key : "an item", err_tr(must));
}

enum field_type { F_TEXT, F_INT, F_LIST, F_COMMAND, F_PAIRS, F_DURATION, F_BYTES, F_TYPES };
struct field {
    const char *key;
    enum field_type type;
    size_t at;
    int64_t least, most;
};
#define AT(member) offsetof(struct spec, member)
static const struct field fields[] = {
    {"name", F_TEXT, AT(name)},
    {"command", F_COMMAND, AT(command)},
    {"env", F_PAIRS, AT(env)},
    {"secrets", F_PAIRS, AT(secrets)},
    {"cwd", F_TEXT, AT(cwd)},
    {"image", F_TEXT, AT(image)},
    {"gpus", F_INT, AT(gpus), 0, 1024},
    {"gpu_type", F_TYPES, 0},
    {"cpus", F_INT, AT(cpus), 1, 65536},
    {"memory_mib", F_INT, AT(memory_mib), 1, INT64_C(1) << 40},
    {"memory", F_BYTES, AT(memory_mib)},
    {"time_limit_s", F_INT, AT(time_limit_s), 1, 31536000},
    {"time", F_DURATION, AT(time_limit_s)},
    {"priority", F_TEXT, AT(priority)},
    {"retries", F_INT, AT(retries), 0, 10},
    {"labels", F_PAIRS, AT(labels)},
};

static int read_list(const struct source *src, const struct yaml *y, const char ***out, size_t *n)
{
    size_t count = 0;
    for (const struct yaml *m = y->first; m != NULL; m = m->next)
        count++;
    const char **list = arena_alloc(src->a, (count + 1) * sizeof(*list));
    *n = 0;
    for (const struct yaml *m = y->first; m != NULL; m = m->next) {
        if (m->kind != YAML_SCALAR)
            return fault(src, m, "text");
        list[(*n)++] = m->text;
    }
    *out = list;
    return OK;
}

static int read_pairs(const struct source *src, const struct yaml *y, struct pair **list)
{
    if (y->kind != YAML_MAP)
        return fault(src, y, "a mapping of names to text");
    for (const struct yaml *m = y->first; m != NULL; m = m->next) {
        if (m->kind != YAML_SCALAR)
            return fault(src, m, "text");
        pair_set(list, m->key, m->text, src->a);
    }
    return OK;
}

/* A command is a list of words, or one text for the shell. */
static int read_command(const struct source *src, const struct yaml *y, struct spec *s)
{
    if (y->kind == YAML_MAP)
        return fault(src, y, "a list of words, or one text for the shell");
    if (y->kind == YAML_LIST)
        return y->first == NULL ? fault(src, y, "a list of words, or one text for the shell")
                                : read_list(src, y, &s->command, &s->n_command);
    const char **words = arena_alloc(src->a, 3 * sizeof(*words));
    words[0] = "/bin/sh";
    words[1] = "-c";
    words[2] = y->text;
    s->command = words;
    s->n_command = 3;
    return OK;
}

static int read_types(const struct source *src, const struct yaml *y, struct spec *s)
{
    const char **list;
    size_t n;
    if (y->kind == YAML_MAP)
        return fault(src, y, "a list of GPU types");
    if (y->kind == YAML_SCALAR)
        return set_gpu_types(s, y->text, src->a, src->e);
    int k = read_list(src, y, &list, &n);
    if (k != OK)
        return k;
    if (n > GPU_TYPES_MAX)
        return fault(src, y, "a list of GPU types");
    memcpy(s->gpu_types, list, n * sizeof(*list));
    s->n_gpu_types = n;
    return OK;
}

static int read_scalar(const struct source *src, const struct yaml *y, const struct field *f,
                       void *member)
{
    int64_t number;
    if (y->kind != YAML_SCALAR)
        return fault(src, y, f->type == F_INT ? "a whole number" : "text");
    switch (f->type) {
    case F_TEXT:
        *(const char **)member = y->text;
        return OK;
    case F_INT:
        if (!y->quoted && str_int(y->text, &number) && number >= f->least && number <= f->most) {
            *(int64_t *)member = number;
            return OK;
        }
        return err_set(src->e, ERR_INVALID,
                       "%s:%d: %s must be a whole number from %" PRId64 " to %" PRId64, src->name,
                       y->line, y->key, f->least, f->most);
    case F_DURATION:
        if (!duration_parse(y->text, &number) || number <= 0)
            return fault(src, y, "a duration such as 90s, 15m, 2h or 1d12h");
        *(int64_t *)member = to_seconds(number);
        return OK;
    default:
        if (!bytes_parse(y->text, &number) || number <= 0)
            return fault(src, y, "an amount such as 512M or 4G");
        *(int64_t *)member = to_mib(number);
        return OK;
    }
}

static int unknown_key(const struct source *src, const struct yaml *y)
{
    const char *best = NULL;
    int least = 3;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        int d = word_distance(y->key, fields[i].key);
        if (d < least) {
            least = d;
            best = fields[i].key;
        }
    }
    if (best != NULL)
        return err_set(src->e, ERR_INVALID, "%s:%d: a job has no \"%s\". Did you mean %s?",
                       src->name, y->line, y->key, best);
    return err_set(src->e, ERR_INVALID, "%s:%d: a job has no \"%s\"", src->name, y->line, y->key);
}

static int read_field(const struct source *src, const struct yaml *y, struct spec *s)
{
    const struct field *f = NULL;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (strcmp(fields[i].key, y->key) == 0)
            f = &fields[i];
    if (f == NULL)
        return unknown_key(src, y);
    if (yaml_is_null(y))
        return OK;
    void *member = (char *)s + f->at;
    switch (f->type) {
    case F_COMMAND:
        return read_command(src, y, s);
    case F_PAIRS:
        return read_pairs(src, y, member);
    case F_TYPES:
        return read_types(src, y, s);
    default:
        return read_scalar(src, y, f, member);
    }
}

int spec_from_yaml(struct spec *s, const char *name, const char *text, size_t n, struct arena *a,
                   struct err *e)
{
    struct source src = {name, a, e};
    struct yaml *root;
    int k = yaml_parse(name, text, n, a, &root, e);
    if (k != OK)
        return k;
    if (root->kind != YAML_MAP)
        return err_set(e, ERR_INVALID, "%s:%d: a job file is a mapping such as \"gpus: 1\"", name,
                       root->line);
    for (const struct yaml *m = root->first; m != NULL && k == OK; m = m->next)
        k = read_field(&src, m, s);
    return k;
}

/* ---- from options ---- */

/* "K=V"; with from_env a bare "K" takes this process's own value. */
static int add_pairs(struct pair **list, const struct parsed *p, const char *option, bool from_env,
                     struct arena *a, struct err *e)
{
    for (const struct given *g = NULL; (g = opt_next(p, option, g)) != NULL;) {
        size_t n = strcspn(g->text, "=");
        const char *name = arena_strndup(a, g->text, n);
        const char *value = g->text[n] == '=' ? g->text + n + 1 : NULL;
        if (n == 0)
            return err_set(e, ERR_INVALID, "--%s takes NAME=VALUE, not \"%s\"", option, g->text);
        if (value == NULL && from_env && (value = getenv(name)) == NULL)
            return err_set(e, ERR_INVALID, "--%s %s: there is no such variable here to take along",
                           option, name);
        if (value == NULL)
            return err_set(e, ERR_INVALID, "--%s takes NAME=VALUE, not \"%s\"", option, g->text);
        pair_set(list, name, value, a);
    }
    return OK;
}

/* "NAME=VARIABLE"; NAME alone is put into a variable that is called so: hf-token into HF_TOKEN. */
static int add_secrets(struct spec *s, const struct parsed *p, struct arena *a, struct err *e)
{
    for (const struct given *g = NULL; (g = opt_next(p, "secret", g)) != NULL;) {
        size_t n = strcspn(g->text, "=");
        char *variable = arena_strdup(a, g->text[n] == '=' ? g->text + n + 1 : g->text);
        if (n == 0 || *variable == '\0')
            return err_set(e, ERR_INVALID, "--secret takes NAME or NAME=VARIABLE, not \"%s\"",
                           g->text);
        for (char *v = variable; g->text[n] != '=' && *v != '\0'; v++)
            *v = isalnum((unsigned char)*v) ? (char)toupper((unsigned char)*v) : '_';
        pair_set(&s->secrets, variable, arena_strndup(a, g->text, n), a);
    }
    return OK;
}

static void set_text(const char **to, const struct parsed *p, const char *option)
{
    const char *text = opt_text(p, option);
    if (text != NULL)
        *to = text;
}

int spec_from_options(struct spec *s, const struct parsed *p, struct arena *a, struct err *e)
{
    set_text(&s->name, p, "name");
    set_text(&s->image, p, "image");
    set_text(&s->cwd, p, "cwd");
    set_text(&s->priority, p, "priority");
    s->gpus = opt_number(p, "gpus", s->gpus);
    s->cpus = opt_number(p, "cpus", s->cpus);
    s->retries = opt_number(p, "retries", s->retries);
    if (opt_given(p, "memory"))
        s->memory_mib = to_mib(opt_number(p, "memory", 0));
    if (opt_given(p, "time"))
        s->time_limit_s = to_seconds(opt_number(p, "time", 0));
    if (p->n_command > 0) {
        s->command = p->command;
        s->n_command = p->n_command;
    }
    const char *types = opt_text(p, "gpu-type");
    int k = types != NULL ? set_gpu_types(s, types, a, e) : OK;
    if (k == OK)
        k = add_pairs(&s->env, p, "env", true, a, e);
    if (k == OK)
        k = add_pairs(&s->labels, p, "label", false, a, e);
    if (k == OK)
        k = add_secrets(s, p, a, e);
    return k;
}

/* ---- to JSON ---- */

static void write_text(struct json *j, const char *key, const char *text)
{
    if (text != NULL)
        json_ktext(j, key, text);
}

static void write_int(struct json *j, const char *key, int64_t number)
{
    if (number != SPEC_ABSENT)
        json_kint(j, key, number);
}

static void write_pairs(struct json *j, const char *key, const struct pair *list)
{
    if (list == NULL)
        return;
    json_key(j, key);
    json_open(j, '{');
    for (; list != NULL; list = list->next)
        json_ktext(j, list->name, list->value);
    json_close(j, '}');
}

static void write_list(struct json *j, const char *key, const char *const *list, size_t n)
{
    json_key(j, key);
    json_open(j, '[');
    for (size_t i = 0; i < n; i++)
        json_text(j, list[i]);
    json_close(j, ']');
}

int spec_write(const struct spec *s, struct buf *to, struct err *e)
{
    if (s->n_command == 0)
        return err_set(e, ERR_INVALID,
                       "there is no command: drover submit [OPTIONS] -- COMMAND…, or a job file");
    struct json j = json_to(to);
    json_open(&j, '{');
    write_text(&j, "name", s->name);
    write_list(&j, "command", s->command, s->n_command);
    write_pairs(&j, "env", s->env);
    write_pairs(&j, "secrets", s->secrets);
    write_text(&j, "cwd", s->cwd);
    write_text(&j, "code", s->code);
    if (s->n_out > 0)
        write_list(&j, "out", s->out, s->n_out);
    write_text(&j, "image", s->image);
    write_int(&j, "gpus", s->gpus);
    if (s->n_gpu_types > 0)
        write_list(&j, "gpu_type", s->gpu_types, s->n_gpu_types);
    write_int(&j, "cpus", s->cpus);
    write_int(&j, "memory_mib", s->memory_mib);
    write_int(&j, "time_limit_s", s->time_limit_s);
    write_text(&j, "priority", s->priority);
    write_int(&j, "retries", s->retries);
    write_pairs(&j, "labels", s->labels);
    json_close(&j, '}');
    return OK;
}
