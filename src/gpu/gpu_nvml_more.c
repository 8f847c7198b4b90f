/* The rest of what NVIDIA's library tells about a GPU: clocks, limits, counters, links, neighbours,
 * and what the kernel driver reported (XIDs).
 *
 * Most of it is "one function, one number" and stands in tables. What must stay true: a number
 * that the library refuses, for whatever reason, stays absent; no buffer is smaller than what any
 * published version writes (each number is read into a larger one). */
#include "gpu/gpu_nvml_parts.h"

#include "base/mem.h"
#include "base/str.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NO_ARGUMENT = -1, XIDS_A_ROUND = 64 };
enum { NVML_EVENT_XID = 8 };
enum { NVML_ERRORS_CORRECTED, NVML_ERRORS_UNCORRECTED };
enum { NVML_COUNTER_SINCE_LOAD, NVML_COUNTER_LIFE };

struct number_row {
    enum symbol symbol;
    int argument; /* of the function, beside the device; NO_ARGUMENT: it has none */
    enum gpu_number number;
    bool wide;  /* it writes 64 bits */
    int divide; /* what it tells, by this; 0: as it is */
};

static const struct number_row fast_rows[] = {
    {SYM_CLOCK, 1, GPU_CLOCK_SM, false, 0},
    {SYM_CLOCK, 2, GPU_CLOCK_MEMORY, false, 0},
    {SYM_CLOCK, 0, GPU_CLOCK_GRAPHICS, false, 0},
    {SYM_CLOCK, 3, GPU_CLOCK_VIDEO, false, 0},
    {SYM_THROTTLE, NO_ARGUMENT, GPU_THROTTLE, true, 0},
    {SYM_PERFORMANCE, NO_ARGUMENT, GPU_PERFORMANCE, false, 0},
    {SYM_ENERGY, NO_ARGUMENT, GPU_ENERGY, true, 0},
    {SYM_PCIE_REPLAYS, NO_ARGUMENT, GPU_PCIE_REPLAYS, false, 0},
};

static const struct number_row slow_rows[] = {
    {SYM_CLOCK_MAX, 1, GPU_CLOCK_SM_MAX, false, 0},
    {SYM_CLOCK_MAX, 2, GPU_CLOCK_MEMORY_MAX, false, 0},
    {SYM_CLOCK_MAX, 0, GPU_CLOCK_GRAPHICS_MAX, false, 0},
    {SYM_FAN, NO_ARGUMENT, GPU_FAN, false, 0},
    {SYM_POWER_DEFAULT, NO_ARGUMENT, GPU_POWER_LIMIT_DEFAULT, false, 1000},
    {SYM_THRESHOLD, 0, GPU_TEMPERATURE_SHUTDOWN, false, 0},
    {SYM_THRESHOLD, 1, GPU_TEMPERATURE_SLOWDOWN, false, 0},
    {SYM_PCIE_GEN, NO_ARGUMENT, GPU_PCIE_GEN, false, 0},
    {SYM_PCIE_GEN_MAX, NO_ARGUMENT, GPU_PCIE_GEN_MAX, false, 0},
    {SYM_PCIE_WIDTH, NO_ARGUMENT, GPU_PCIE_WIDTH, false, 0},
    {SYM_PCIE_WIDTH_MAX, NO_ARGUMENT, GPU_PCIE_WIDTH_MAX, false, 0},
    {SYM_PCIE_THROUGHPUT, 0, GPU_PCIE_TX, false, 0},
    {SYM_PCIE_THROUGHPUT, 1, GPU_PCIE_RX, false, 0},
    {SYM_RETIRED_PENDING, NO_ARGUMENT, GPU_RETIRED_PENDING, false, 0},
    {SYM_COMPUTE_MODE, NO_ARGUMENT, GPU_COMPUTE_MODE, false, 0},
    {SYM_PERSISTENCE, NO_ARGUMENT, GPU_PERSISTENCE, false, 0},
};

static void read_rows(struct reading *r, const struct number_row *rows, size_t n)
{
    for (size_t i = 0; i < n && r->told->state == GPU_OK; i++) {
        const struct number_row *row = &rows[i];
        unsigned long long v[4] = {0};
        int code = row->argument == NO_ARGUMENT
                       ? CALL(r->n, row->symbol, r->index, (void *, void *), r->device, v)
                       : CALL(r->n, row->symbol, r->index, (void *, int, void *), r->device,
                              row->argument, v);
        if (!nvml_took(r, row->symbol, code))
            continue;
        unsigned narrow;
        memcpy(&narrow, v, sizeof(narrow));
        int64_t value = row->wide ? (int64_t)v[0] : (int)narrow;
        r->told->numbers[row->number] = row->divide != 0 ? value / row->divide : value;
    }
}

static void read_two(struct reading *r, enum symbol s, enum gpu_number first,
                     enum gpu_number second, int divide)
{
    unsigned a[4] = {0}, b[4] = {0};
    int code = CALL(r->n, s, r->index, (void *, unsigned *, unsigned *), r->device, a, b);
    if (!nvml_took(r, s, code))
        return;
    r->told->numbers[first] = (int)a[0] / divide;
    r->told->numbers[second] = (int)b[0] / divide;
}

static void read_ecc(struct reading *r)
{
    static const struct {
        int error, counter;
        enum gpu_number number;
    } rows[] = {
        {NVML_ERRORS_CORRECTED, NVML_COUNTER_SINCE_LOAD, GPU_ECC_CORRECTED},
        {NVML_ERRORS_CORRECTED, NVML_COUNTER_LIFE, GPU_ECC_CORRECTED_TOTAL},
        {NVML_ERRORS_UNCORRECTED, NVML_COUNTER_LIFE, GPU_ECC_UNCORRECTED_TOTAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned long long errors = 0;
        int code = CALL(r->n, SYM_ECC, r->index, (void *, int, int, unsigned long long *),
                        r->device, rows[i].error, rows[i].counter, &errors);
        if (nvml_took(r, SYM_ECC, code))
            r->told->numbers[rows[i].number] = (int64_t)errors;
    }
    read_two(r, SYM_ECC_MODE, GPU_ECC, GPU_ECC_PENDING, 1);
    static const enum gpu_number retired[] = {GPU_RETIRED_SINGLE, GPU_RETIRED_DOUBLE};
    for (int cause = 0; cause < 2; cause++) {
        unsigned count = 0; /* no room: it tells how many there are */
        int code = CALL(r->n, SYM_RETIRED, r->index,
                        (void *, int, unsigned *, unsigned long long *), r->device, cause, &count,
                        NULL);
        if (code == NVML_INSUFFICIENT_SIZE || nvml_took(r, SYM_RETIRED, code))
            r->told->numbers[retired[cause]] = count;
    }
}

static void read_links(struct reading *r)
{
    struct gpu_told *t = r->told;
    int64_t active = 0, errors = 0;
    for (int i = 0; i < GPU_LINKS_MAX; i++) {
        unsigned state[4] = {0}, version[4] = {0};
        int code = CALL(r->n, SYM_NVLINK_STATE, r->index, (void *, unsigned, unsigned *), r->device,
                        (unsigned)i, state);
        if (!nvml_took(r, SYM_NVLINK_STATE, code))
            break; /* no more links, or none at all */
        struct gpu_link *l = &t->links[t->n_links++];
        *l = (struct gpu_link){state[0] == 1, GPU_UNKNOWN, GPU_UNKNOWN,
                               GPU_UNKNOWN,   GPU_UNKNOWN, GPU_UNKNOWN};
        active += l->active;
        if (!l->active)
            continue;
        if (CALL(r->n, SYM_NVLINK_VERSION, r->index, (void *, unsigned, unsigned *), r->device,
                 (unsigned)i, version) == NVML_SUCCESS)
            l->version = (int)version[0];
        int64_t *const counters[] = {&l->replays, &l->recoveries, &l->flit_crc, &l->data_crc};
        for (int k = 0; k < (int)ARRAY_LEN(counters); k++) {
            unsigned long long count = 0;
            if (CALL(r->n, SYM_NVLINK_ERRORS, r->index,
                     (void *, unsigned, int, unsigned long long *), r->device, (unsigned)i, k,
                     &count) != NVML_SUCCESS)
                continue;
            *counters[k] = count > INT64_MAX / 128 ? GPU_UNKNOWN : (int64_t)count;
            errors += *counters[k] > 0 ? *counters[k] : 0;
        }
    }
    if (t->n_links == 0)
        return;
    t->numbers[GPU_NVLINKS_ACTIVE] = active;
    t->numbers[GPU_NVLINK_ERRORS] = errors;
}

struct nvml_pci {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char name[32];
    unsigned room[8];
};

static void read_place(struct reading *r)
{
    struct nvml_pci pci;
    memset(&pci, 0, sizeof(pci));
    struct gpu_told *t = r->told;
    if (!nvml_took(r, SYM_PCI,
                   CALL(r->n, SYM_PCI, r->index, (void *, struct nvml_pci *), r->device, &pci)))
        return;
    pci.name[sizeof(pci.name) - 1] = '\0';
    snprintf(t->bus, sizeof(t->bus), "%s", pci.name);
    char path[128], text[16] = "", bus[32];
    snprintf(bus, sizeof(bus), "%04x:%02x:%02x.0", pci.domain & 0xffff, pci.bus & 0xff,
             pci.device & 0xff);
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/numa_node", bus);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    int64_t node;
    if (n > 1 && text[n - 1] == '\n')
        text[n - 1] = '\0';
    if (n > 0 && str_int(text, &node) && node >= 0)
        t->numbers[GPU_NUMA_NODE] = node;
}

static void read_neighbours(struct reading *r)
{
    static const struct {
        int level;
        char letter;
    } levels[] = {{0, 'B'}, {10, 'P'}, {20, 'X'}, {30, 'H'}, {40, 'N'}, {50, 'S'}};
    char *to = r->told->topology;
    int n = 0;
    for (int i = 0; i < GPU_MAX; i++) {
        int level[4] = {-1};
        to[i] = i == r->index ? '.' : '-';
        if (i == r->index)
            n = i + 1;
        if (i == r->index || r->n->devices[i] == NULL ||
            CALL(r->n, SYM_ANCESTOR, r->index, (void *, void *, int *), r->device, r->n->devices[i],
                 level) != NVML_SUCCESS)
            continue;
        for (size_t k = 0; k < ARRAY_LEN(levels); k++)
            if (levels[k].level == level[0])
                to[i] = levels[k].letter;
        n = i + 1;
    }
    to[n > 1 ? n : 0] = '\0'; /* alone there is nothing to say */
}

struct nvml_bar1 {
    unsigned long long total, free, used, room[4];
};

void nvml_read_more(struct reading *r)
{
    read_rows(r, fast_rows, ARRAY_LEN(fast_rows));
    static const struct {
        enum symbol symbol;
        enum gpu_number number;
    } codecs[] = {{SYM_ENCODER, GPU_ENCODER}, {SYM_DECODER, GPU_DECODER}};
    for (size_t i = 0; i < ARRAY_LEN(codecs) && r->told->state == GPU_OK; i++) {
        unsigned share[4] = {0}, period[4] = {0};
        int code = CALL(r->n, codecs[i].symbol, r->index, (void *, unsigned *, unsigned *),
                        r->device, share, period);
        if (nvml_took(r, codecs[i].symbol, code))
            r->told->numbers[codecs[i].number] = share[0];
    }
}

void nvml_read_slow(struct reading *r)
{
    struct gpu_told *t = r->told;
    nvml_read_text(r, SYM_SERIAL, t->serial, sizeof(t->serial));
    nvml_read_text(r, SYM_VBIOS, t->vbios, sizeof(t->vbios));
    read_rows(r, slow_rows, ARRAY_LEN(slow_rows));
    struct nvml_bar1 bar = {0};
    if (nvml_took(r, SYM_BAR1,
                  CALL(r->n, SYM_BAR1, r->index, (void *, struct nvml_bar1 *), r->device, &bar))) {
        t->numbers[GPU_BAR1_TOTAL] = (int64_t)(bar.total >> 20);
        t->numbers[GPU_BAR1_USED] = (int64_t)(bar.used >> 20);
    }
    read_two(r, SYM_POWER_RANGE, GPU_POWER_LIMIT_MIN, GPU_POWER_LIMIT_MAX, 1000);
    unsigned on[4] = {0}, next[4] = {0};
    if (nvml_took(r, SYM_MIG_MODE,
                  CALL(r->n, SYM_MIG_MODE, r->index, (void *, unsigned *, unsigned *), r->device,
                       on, next)))
        t->numbers[GPU_MIG] = (int)on[0];
    static void (*const steps[])(struct reading *) = {read_ecc, read_links, read_place,
                                                      read_neighbours};
    for (size_t i = 0; i < ARRAY_LEN(steps) && t->state == GPU_OK; i++)
        steps[i](r);
}

/* ---- what the kernel driver reported ---- */

struct nvml_event {
    void *device;
    unsigned long long type, data;
    unsigned instances[2];
    unsigned long long room[4];
};

static void events_register(struct nvml *n)
{
    for (int i = 0; i < GPU_MAX; i++) {
        unsigned long long types = 0;
        if (n->devices[i] == NULL || n->registered[i])
            continue;
        if (n->events == NULL &&
            CALL(n, SYM_EVENT_SET, -1, (void **), &n->events) != NVML_SUCCESS) {
            n->events = NULL;
            return;
        }
        if (CALL(n, SYM_EVENT_TYPES, i, (void *, unsigned long long *), n->devices[i], &types) !=
            NVML_SUCCESS)
            continue;
        n->registered[i] = true;
        if (types & NVML_EVENT_XID)
            (void)CALL(n, SYM_EVENT_REGISTER, i, (void *, unsigned long long, void *),
                       n->devices[i], (unsigned long long)NVML_EVENT_XID, n->events);
    }
}

void nvml_xids(struct nvml *n, void (*each)(int gpu, int64_t xid))
{
    events_register(n);
    for (int i = 0; n->events != NULL && i < XIDS_A_ROUND; i++) {
        struct nvml_event event;
        memset(&event, 0, sizeof(event));
        /* It only collects what has come since: it does not wait. */
        if (CALL(n, SYM_EVENT_WAIT, -1, (void *, struct nvml_event *, unsigned), n->events, &event,
                 0u) != NVML_SUCCESS)
            return;
        for (int k = 0; k < GPU_MAX; k++)
            if (event.type == NVML_EVENT_XID && n->devices[k] == event.device &&
                event.device != NULL)
                each(k, (int64_t)event.data);
    }
}
