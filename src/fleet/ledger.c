/* Whose the memory of a GPU is. Pure: what is declared by leases beside what the driver measured.
 *
 * What must stay true: the rows add up to the GPU's memory as far as it is told; memory whose owner
 * is unknown is nobody's, never ours. */
#include "fleet/fleet_parts.h"

#include <string.h>

const char *const ledger_kind_names[] = {"holder", "foreign", "dead", "nobody",
                                         "driver", "free",    NULL};

static int64_t known(int64_t v)
{
    return v == INT_NULL ? 0 : v;
}

int64_t gpu_holder_memory(const struct snap_gpu *g, const struct snap_holder *h)
{
    int64_t sum = 0;
    bool any = false, unknown = false;
    for (size_t i = 0; h->kind == HOLDER_JOB && i < g->n_processes; i++) {
        if (g->processes[i].job != h->holder)
            continue;
        any = true;
        unknown |= g->processes[i].memory_mib == INT_NULL;
        sum += known(g->processes[i].memory_mib);
    }
    /* simulated GPUs and some drivers name no processes: then all that is used is its own */
    if (!any && g->n_processes == 0 && g->n_holders == 1 && g->simulated)
        return g->memory_used_mib;
    return unknown ? INT_NULL : sum;
}

static void add(struct ledger_row *rows, struct gpu_ledger *out, struct ledger_row row)
{
    if (rows != NULL)
        rows[out->n] = row;
    out->n++;
}

void gpu_ledger(const struct snap_gpu *g, struct arena *a, struct gpu_ledger *out)
{
    *out = (struct gpu_ledger){.free_mib = INT_NULL, .unpromised_mib = INT_NULL};
    struct ledger_row *rows = a != NULL ? arena_alloc(a, (g->n_holders + g->n_processes + 3) *
                                                             sizeof(*rows))
                                        : NULL;
    int64_t promised = 0;
    bool all_known = true;
    for (size_t i = 0; i < g->n_holders; i++) {
        const struct snap_holder *h = &g->holders[i];
        int64_t measured = g->live != NULL ? gpu_holder_memory(g, h) : INT_NULL;
        int64_t declared = known(h->declared_mib);
        all_known &= measured != INT_NULL;
        out->ours_mib += known(measured);
        promised += known(measured) > declared ? known(measured) : declared;
        add(rows, out, (struct ledger_row){LEDGER_HOLDER, h, NULL, h->declared_mib, measured});
    }
    for (size_t i = 0; i < g->n_processes; i++) {
        const struct snap_process *p = &g->processes[i];
        if (p->job != 0)
            continue;
        all_known &= p->memory_mib != INT_NULL;
        *(p->dead ? &out->dead_mib : &out->foreign_mib) += known(p->memory_mib);
        add(rows, out,
            (struct ledger_row){p->dead ? LEDGER_DEAD : LEDGER_FOREIGN, NULL, p, INT_NULL,
                                p->memory_mib});
    }
    out->rows = rows;
    if (g->memory_total_mib == INT_NULL || g->memory_used_mib == INT_NULL)
        return;
    int64_t reserved = g->live != NULL ? g->live->numbers[GPU_MEMORY_RESERVED] : 0;
    int64_t named = out->ours_mib + out->foreign_mib + out->dead_mib;
    out->driver_mib = reserved > 0 ? reserved : 0;
    /* where a process hides its use, what is left over is that one's */
    out->nobody_mib = all_known && g->memory_used_mib > named ? g->memory_used_mib - named : 0;
    int64_t taken = g->memory_used_mib > named ? g->memory_used_mib : named;
    out->free_mib = g->memory_total_mib - out->driver_mib - taken;
    out->free_mib = out->free_mib < 0 ? 0 : out->free_mib;
    if (out->nobody_mib > 0)
        add(rows, out, (struct ledger_row){LEDGER_NOBODY, NULL, NULL, INT_NULL, out->nobody_mib});
    if (out->driver_mib > 0)
        add(rows, out, (struct ledger_row){LEDGER_DRIVER, NULL, NULL, INT_NULL, out->driver_mib});
    add(rows, out, (struct ledger_row){LEDGER_FREE, NULL, NULL, INT_NULL, out->free_mib});
    out->unpromised_mib = g->memory_total_mib - out->driver_mib - out->foreign_mib - out->dead_mib -
                          out->nobody_mib - promised;
    out->unpromised_mib = out->unpromised_mib < 0 ? 0 : out->unpromised_mib;
}
