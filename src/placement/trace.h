/* Traces: a fleet and the tasks that came to it, as two CSV texts with a header line. Columns are
 * found by name, in any order; others are left alone. Whole numbers, no quotes.
 *
 *   nodes   sn, cpu_milli, memory_mib, gpu (how many), model (of its GPUs; may be missing)
 *   tasks   name, cpu_milli, memory_mib, num_gpu, gpu_milli (thousandths of one GPU; of several it
 *           is 1000 or empty), gpu_spec (models, "A|B"; may be missing), creation_time and
 *           deletion_time (seconds; wanted only where time is simulated)
 *
 * These are the columns of Alibaba's cluster-trace-gpu-v2023. Everything is checked before anything
 * is used: an error names the line and the column.
 *
 * Threads: none shared. No I/O. */
#ifndef PLACEMENT_TRACE_H
#define PLACEMENT_TRACE_H

#include "base/mem.h"
#include "placement/pack.h"

enum { TRACE_ROWS_MAX = 10000000, TRACE_BYTES_MAX = 1 << 30 };

struct trace_node {
    const char *name;
    int64_t cpu_milli, memory_mib;
    int32_t model, gpus;
};
struct trace_task {
    const char *name;
    uint32_t shape; /* index into shapes */
    int64_t created_s, deleted_s;
};
struct trace {
    struct trace_node *nodes;
    struct trace_task *tasks;
    struct shape *shapes;
    size_t n_nodes, n_tasks, n_shapes;
    const char *models[PACK_MODELS_MAX];
    size_t n_models;
    struct arena names;
};
/* Each adds to what is there; e must not be NULL. `what` is the text's name in errors
 * ("nodes.csv"). */
int trace_nodes(struct trace *t, const char *what, const char *text, size_t n, struct err *e);
int trace_tasks(struct trace *t, const char *what, const char *text, size_t n, bool with_times,
                struct err *e);
/* `count` more nodes like the one that the fleet has most of. ERR_INVALID: there is none. */
int trace_nodes_more(struct trace *t, size_t count, struct err *e);
void trace_fini(struct trace *t);
static inline void auto_trace(struct trace *t)
{
    trace_fini(t);
}
/* Chinese for the errors of this room: err_translate_with(). */
extern const struct err_text placement_texts_zh[];

#endif
