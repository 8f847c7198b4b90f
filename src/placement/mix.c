/* Learning the mix: a table small enough to scan. */
#include "placement/mix.h"

bool shape_same(const struct shape *a, const struct shape *b)
{
    return a->cpu_milli == b->cpu_milli && a->memory_mib == b->memory_mib && a->gpus == b->gpus &&
           a->milli == b->milli && a->models == b->models;
}

bool mix_learn(struct mix *m, const struct shape *s)
{
    size_t at = 0, rarest = 0;
    while (at < m->n && !shape_same(&m->rows[at].shape, s)) {
        if (m->rows[at].count < m->rows[rarest].count)
            rarest = at;
        at++;
    }
    if (at == MIX_SHAPES_MAX) {
        at = rarest;
        m->rows[at].shape = *s; /* with the count of the one that gives way */
    } else if (at == m->n) {
        m->rows[at] = (struct mix_row){.shape = *s};
        m->n++;
    }
    m->rows[at].count++;
    m->total++;
    if (m->published > 0 && m->total < m->published + m->published / 10 + 20)
        return false;
    m->published = m->total;
    return true;
}
