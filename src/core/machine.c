/* Table-driven state machines. */
#include "core/machine.h"

int machine_next(const struct machine *m, int from, int on, int *to, struct err *e)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->rows[i].from == from && m->rows[i].on == on) {
            *to = m->rows[i].to;
            return OK;
        }
    return err_set(e, ERR_CONFLICT, "the %s is %s: %s is not possible", m->name, m->states[from],
                   m->events[on]);
}
