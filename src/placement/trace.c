/* Reading traces. One table for each kind of text says its columns; one walk over the lines finds
 * them, checks that each line has as many fields as the header, and hands the fields over. */
#include "placement/trace.h"

#include "base/str.h"

#include <inttypes.h>
#include <string.h>

enum { FIELDS_MAX = 64, FIELD_MAX = 200 };
static const int64_t CPU_MAX = 100000000, MEMORY_MAX = (int64_t)1 << 40,
                     TIME_MAX = (int64_t)1 << 40;

struct csv {
    const char *what, *at, *end;
    int64_t line;
    size_t n_fields; /* of the header; 0: not read yet */
    char fields[FIELDS_MAX][FIELD_MAX];
};

/* The next line that is not empty. False at the end and on an error (e->kind). */
static bool csv_line(struct csv *c, size_t *n, struct err *e)
{
    while (c->at < c->end) {
        const char *stop = memchr(c->at, '\n', (size_t)(c->end - c->at));
        const char *next = stop != NULL ? stop + 1 : c->end;
        stop = stop != NULL ? stop : c->end;
        if (stop > c->at && stop[-1] == '\r')
            stop--;
        c->line++;
        const char *at = c->at;
        c->at = next;
        if (at == stop)
            continue;
        for (*n = 0;; at++) {
            const char *comma = memchr(at, ',', (size_t)(stop - at));
            size_t length = (size_t)((comma != NULL ? comma : stop) - at);
            if (*n == FIELDS_MAX || length >= FIELD_MAX) {
                err_set(e, ERR_MALFORMED, "%s, line %" PRId64 ": more than %d fields or %d bytes",
                        c->what, c->line, FIELDS_MAX, FIELD_MAX - 1);
                return false;
            }
            if (memchr(at, '"', length) != NULL || memchr(at, '\0', length) != NULL) {
                err_set(e, ERR_MALFORMED, "%s, line %" PRId64 ": quotes and NUL are not read",
                        c->what, c->line);
                return false;
            }
            memcpy(c->fields[*n], at, length);
            c->fields[(*n)++][length] = '\0';
            if (comma == NULL)
                return true;
            at = comma;
        }
    }
    return false;
}

/* Where the columns stand; -1: missing. `names` ends with NULL; the first `must` are wanted. */
static int csv_header(struct csv *c, const char *const *names, size_t must, int *columns,
                      struct err *e)
{
    size_t n = 0;
    if (!csv_line(c, &n, e))
        return e->kind != OK ? (int)e->kind
                             : err_set(e, ERR_MALFORMED, "%s has no header line", c->what);
    c->n_fields = n;
    for (size_t k = 0; names[k] != NULL; k++) {
        columns[k] = -1;
        for (size_t i = 0; i < n; i++)
            if (strcmp(c->fields[i], names[k]) == 0)
                columns[k] = (int)i;
        if (columns[k] < 0 && k < must)
            return err_set(e, ERR_MALFORMED, "%s has no column %s", c->what, names[k]);
    }
    return OK;
}

static const char *field(const struct csv *c, int column)
{
    return column >= 0 ? c->fields[column] : "";
}

static int number(const struct csv *c, int column, const char *name, int64_t most, int64_t *out,
                  struct err *e)
{
    if (!str_int(field(c, column), out) || *out < 0 || *out > most)
        return err_set(e, ERR_INVALID,
                       "%s, line %" PRId64 ": %s is \"%s\", not a whole number from 0 to %" PRId64,
                       c->what, c->line, name, field(c, column), most);
    return OK;
}

static int model_of(struct trace *t, const struct csv *c, const char *name, int32_t *out,
                    struct err *e)
{
    for (size_t i = 0; i < t->n_models; i++)
        if (strcmp(t->models[i], name) == 0) {
            *out = (int32_t)i;
            return OK;
        }
    if (t->n_models == PACK_MODELS_MAX)
        return err_set(e, ERR_TOO_LARGE, "%s, line %" PRId64 ": more than %d GPU models", c->what,
                       c->line, PACK_MODELS_MAX);
    t->models[t->n_models] = arena_strdup(&t->names, name);
    *out = (int32_t)t->n_models++;
    return OK;
}

static void *grown(void *rows, size_t n, size_t size)
{
    /* room is a power of two: full exactly when n is one */
    if (n == 0)
        return mem_realloc(rows, size);
    return (n & (n - 1)) == 0 ? mem_realloc(rows, 2 * n * size) : rows;
}

static int too_many(const struct csv *c, struct err *e)
{
    return err_set(e, ERR_TOO_LARGE, "%s has more than %d rows", c->what, TRACE_ROWS_MAX);
}

static int fields_match(const struct csv *c, size_t n, struct err *e)
{
    if (n == c->n_fields)
        return OK;
    return err_set(e, ERR_MALFORMED, "%s, line %" PRId64 ": %zu fields, the header has %zu",
                   c->what, c->line, n, c->n_fields);
}

int trace_nodes(struct trace *t, const char *what, const char *text, size_t n, struct err *e)
{
    static const char *const names[] = {"sn", "cpu_milli", "memory_mib", "gpu", "model", NULL};
    struct csv *c = arena_alloc(&t->names, sizeof(*c));
    *c = (struct csv){.what = what, .at = text, .end = text + n};
    int at[ARRAY_LEN(names)];
    size_t fields;
    err_clear(e);
    int k = csv_header(c, names, 4, at, e);
    while (k == OK && csv_line(c, &fields, e)) {
        struct trace_node node = {0};
        int64_t gpus = 0;
        if (t->n_nodes == PACK_HOSTS_MAX)
            return too_many(c, e);
        if ((k = fields_match(c, fields, e)) != OK ||
            (k = number(c, at[1], names[1], CPU_MAX, &node.cpu_milli, e)) != OK ||
            (k = number(c, at[2], names[2], MEMORY_MAX, &node.memory_mib, e)) != OK ||
            (k = number(c, at[3], names[3], PACK_GPUS_MAX, &gpus, e)) != OK ||
            (k = model_of(t, c, field(c, at[4]), &node.model, e)) != OK)
            break;
        node.gpus = (int32_t)gpus;
        node.name = arena_strdup(&t->names, field(c, at[0]));
        t->nodes = grown(t->nodes, t->n_nodes, sizeof(node));
        t->nodes[t->n_nodes++] = node;
    }
    return k != OK ? k : (int)e->kind;
}

/* "A|B" to bits. A model that no node has is a bit that no node has. */
static int models_read(struct trace *t, const struct csv *c, const char *spec, uint64_t *out,
                       struct err *e)
{
    char one[FIELD_MAX];
    while (*spec != '\0') {
        size_t length = strcspn(spec, "|");
        memcpy(one, spec, length);
        one[length] = '\0';
        int32_t model;
        int k = model_of(t, c, one, &model, e);
        if (k != OK)
            return k;
        *out |= (uint64_t)1 << model;
        spec += length + (spec[length] == '|');
    }
    return OK;
}

static int shape_read(struct trace *t, const struct csv *c, const int *at, struct shape *out,
                      struct err *e)
{
    int64_t gpus = 0, milli = 0;
    const char *share = field(c, at[4]);
    int k = number(c, at[1], "cpu_milli", CPU_MAX, &out->cpu_milli, e);
    if (k == OK)
        k = number(c, at[2], "memory_mib", MEMORY_MAX, &out->memory_mib, e);
    if (k == OK)
        k = number(c, at[3], "num_gpu", PACK_GPUS_MAX, &gpus, e);
    if (k == OK && *share != '\0')
        k = number(c, at[4], "gpu_milli", 1000, &milli, e);
    if (k == OK && gpus > 0)
        k = models_read(t, c, field(c, at[5]), &out->models, e);
    if (k != OK)
        return k;
    if (gpus > 1 && *share == '\0')
        milli = 1000;
    if ((gpus == 0 && milli != 0) || (gpus == 1 && milli == 0) || (gpus > 1 && milli != 1000))
        return err_set(e, ERR_INVALID,
                       "%s, line %" PRId64 ": gpu_milli is \"%s\" with num_gpu %" PRId64
                       "; it is 0 without GPUs, 1 to 1000 of one, 1000 of several",
                       c->what, c->line, share, gpus);
    out->gpus = (int32_t)gpus;
    out->milli = (int32_t)milli;
    return OK;
}

/* Most tasks are like one of the last few: looked for from the newest on. */
static uint32_t shape_intern(struct trace *t, const struct shape *s)
{
    for (size_t i = t->n_shapes; i-- > 0;)
        if (shape_same(&t->shapes[i], s))
            return (uint32_t)i;
    t->shapes = grown(t->shapes, t->n_shapes, sizeof(*s));
    t->shapes[t->n_shapes] = *s;
    return (uint32_t)t->n_shapes++;
}

int trace_tasks(struct trace *t, const char *what, const char *text, size_t n, bool with_times,
                struct err *e)
{
    static const char *const names[] = {"name",          "cpu_milli",     "memory_mib",
                                        "num_gpu",       "gpu_milli",     "gpu_spec",
                                        "creation_time", "deletion_time", NULL};
    struct csv *c = arena_alloc(&t->names, sizeof(*c));
    *c = (struct csv){.what = what, .at = text, .end = text + n};
    int at[ARRAY_LEN(names)];
    size_t fields;
    err_clear(e);
    int k = csv_header(c, names, 5, at, e);
    for (int i = 6; k == OK && with_times && i < 8; i++)
        if (at[i] < 0)
            k = err_set(e, ERR_MALFORMED, "%s has no column %s; without times give --arrive-only",
                        what, names[i]);
    while (k == OK && csv_line(c, &fields, e)) {
        struct trace_task task = {0};
        struct shape shape = {0};
        if (t->n_tasks == TRACE_ROWS_MAX)
            return too_many(c, e);
        if ((k = fields_match(c, fields, e)) != OK || (k = shape_read(t, c, at, &shape, e)) != OK)
            break;
        if (with_times && ((k = number(c, at[6], names[6], TIME_MAX, &task.created_s, e)) != OK ||
                           (k = number(c, at[7], names[7], TIME_MAX, &task.deleted_s, e)) != OK))
            break;
        if (task.deleted_s < task.created_s) {
            k = err_set(e, ERR_INVALID,
                        "%s, line %" PRId64 ": deletion_time %" PRId64
                        " is before creation_time %" PRId64,
                        what, c->line, task.deleted_s, task.created_s);
            break;
        }
        task.name = arena_strdup(&t->names, field(c, at[0]));
        task.shape = shape_intern(t, &shape);
        t->tasks = grown(t->tasks, t->n_tasks, sizeof(task));
        t->tasks[t->n_tasks++] = task;
    }
    return k != OK ? k : (int)e->kind;
}

static bool alike(const struct trace_node *a, const struct trace_node *b)
{
    return a->cpu_milli == b->cpu_milli && a->memory_mib == b->memory_mib && a->gpus == b->gpus &&
           a->model == b->model;
}

int trace_nodes_more(struct trace *t, size_t count, struct err *e)
{
    size_t best = 0, most = 0;
    /* kinds are few: each is counted where it comes first, until half are seen to be of one */
    for (size_t i = 0; i < t->n_nodes && 2 * most <= t->n_nodes; i++) {
        size_t same = 0;
        for (size_t k = 0; k < t->n_nodes; k++)
            same += alike(&t->nodes[i], &t->nodes[k]);
        if (same > most) {
            most = same;
            best = i;
        }
    }
    if (most == 0)
        return err_set(e, ERR_INVALID, "there is no node that more could be like");
    struct trace_node like = t->nodes[best];
    for (size_t i = 0; i < count; i++) {
        if (t->n_nodes == PACK_HOSTS_MAX)
            return err_set(e, ERR_TOO_LARGE, "more than %d hosts", PACK_HOSTS_MAX);
        like.name = arena_printf(&t->names, "added-%zu", i + 1);
        t->nodes = grown(t->nodes, t->n_nodes, sizeof(like));
        t->nodes[t->n_nodes++] = like;
    }
    return OK;
}

void trace_fini(struct trace *t)
{
    mem_free(t->nodes);
    mem_free(t->tasks);
    mem_free(t->shapes);
    arena_fini(&t->names);
    *t = (struct trace){0};
}
