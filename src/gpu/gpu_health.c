/* How well a GPU is: a pure function of its facts, and the table of what XIDs mean.
 *
 * The numbers and their classes are facts of NVIDIA's public XID catalogue, told in our own words.
 * What must stay true: an application's fault never blames the GPU; every verdict heals when its
 * cause is gone or old, so that nothing sticks. */
#include "gpu/gpu.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const gpu_health_names[] = {"ok", "degraded", "failed", "unknown", NULL};

enum { HOUR = 3600, DAY = 86400 };

#define RESET   "reset the GPU: nvidia-smi --gpu-reset"
#define RESTART "restart the host; if it comes back, have the card checked"
#define PROGRAM "look at the program: memory checks such as compute-sanitizer find it"
#define WATCH   "nothing now; if it comes back often, have the card checked"
#define REPORT  "gather nvidia-bug-report and tell the maker"

static const struct gpu_xid_row xid_rows[] = {
    {8, GPU_HEALTH_OK, 0, "a program ran too long in one step on the GPU", PROGRAM},
    {13, GPU_HEALTH_OK, 0, "a program made an illegal instruction or access on the GPU", PROGRAM},
    {31, GPU_HEALTH_OK, 0, "a program used GPU memory that is not its own", PROGRAM},
    {32, GPU_HEALTH_DEGRADED, HOUR, "commands arrived damaged: the PCIe link may be bad", WATCH},
    {38, GPU_HEALTH_DEGRADED, HOUR, "the firmware of the driver failed", RESET},
    {43, GPU_HEALTH_OK, 0, "a program's work on the GPU was stopped after its own fault", PROGRAM},
    {45, GPU_HEALTH_OK, 0, "a program was ended while it used the GPU", "nothing"},
    {48, GPU_HEALTH_FAILED, DAY, "an uncorrectable memory error", RESET},
    {61, GPU_HEALTH_FAILED, HOUR, "the internal controller stopped at a fault", RESET},
    {62, GPU_HEALTH_FAILED, HOUR, "the internal controller halted", RESET},
    {63, GPU_HEALTH_DEGRADED, DAY, "a bad memory row or page was set aside, from the next reset on",
     RESET},
    {64, GPU_HEALTH_FAILED, DAY, "a bad memory row or page could not be set aside", RESTART},
    {68, GPU_HEALTH_DEGRADED, HOUR, "the video processor failed", WATCH},
    {69, GPU_HEALTH_OK, 0, "a program gave the graphics engine a wrong command", PROGRAM},
    {74, GPU_HEALTH_DEGRADED, HOUR, "an NVLink error", "look at the NVLink counters; " RESET},
    {79, GPU_HEALTH_FAILED, HOUR, "the GPU fell off the bus", RESTART},
    {92, GPU_HEALTH_DEGRADED, HOUR, "many corrected memory errors", WATCH},
    {93, GPU_HEALTH_DEGRADED, DAY, "the card's stored configuration is not clean", REPORT},
    {94, GPU_HEALTH_DEGRADED, HOUR, "an uncorrectable memory error that one program alone suffered",
     "start that program again; reset the GPU when it is free"},
    {95, GPU_HEALTH_FAILED, DAY, "an uncorrectable memory error that any program may have suffered",
     RESET},
    {109, GPU_HEALTH_DEGRADED, HOUR, "the GPU did not change from one program to the next in time",
     WATCH},
    {110, GPU_HEALTH_FAILED, HOUR, "a security fault", RESTART},
    {119, GPU_HEALTH_FAILED, HOUR, "the system processor of the GPU does not answer", RESET},
    {120, GPU_HEALTH_FAILED, HOUR, "the system processor of the GPU failed", RESET},
    {121, GPU_HEALTH_DEGRADED, HOUR, "corrected errors between CPU and GPU", WATCH},
    {122, GPU_HEALTH_DEGRADED, HOUR, "the card's flash memory could not be read", REPORT},
    {123, GPU_HEALTH_DEGRADED, HOUR, "the power controller failed", RESET},
    {124, GPU_HEALTH_DEGRADED, HOUR, "an error at the memory coherence unit", REPORT},
    {136, GPU_HEALTH_DEGRADED, HOUR, "NVLink could not be trained", RESET},
    {137, GPU_HEALTH_OK, 0, "a program's access to another GPU failed", PROGRAM},
    {140, GPU_HEALTH_FAILED, DAY, "an unrecovered memory error", RESET},
    {143, GPU_HEALTH_FAILED, HOUR, "the GPU could not be started", RESTART},
    {144, GPU_HEALTH_DEGRADED, HOUR, "an NVLink error (SAW)", RESET},
    {145, GPU_HEALTH_DEGRADED, HOUR, "an NVLink error (RLW)", RESET},
    {146, GPU_HEALTH_DEGRADED, HOUR, "an NVLink error (TLW)", RESET},
    {147, GPU_HEALTH_DEGRADED, HOUR, "an NVLink error (TREX)", RESET},
    {148, GPU_HEALTH_DEGRADED, HOUR, "an NVLink error (NVLPW)", RESET},
    {149, GPU_HEALTH_DEGRADED, HOUR, "an NVLink error (network interface)", RESET},
    {150, GPU_HEALTH_DEGRADED, HOUR, "an NVLink error (system interface)", RESET},
    {151, GPU_HEALTH_DEGRADED, HOUR, "a wrong key between NVLink ends", RESTART},
    {154, GPU_HEALTH_DEGRADED, HOUR, "the driver changed what it advises to recover this GPU",
     "see the kernel log for the action; often a reset of the GPU"},
    {155, GPU_HEALTH_DEGRADED, HOUR, "an NVLink was switched off by software", "nothing"},
    {156, GPU_HEALTH_DEGRADED, HOUR, "a resource of the GPU was retired", RESET},
    {157, GPU_HEALTH_DEGRADED, HOUR, "a resource of the GPU could not be retired", RESTART},
    {158, GPU_HEALTH_FAILED, HOUR, "the GPU hit a fatal timeout", RESET},
};
static const struct gpu_xid_row unknown_xid = {0, GPU_HEALTH_DEGRADED, HOUR, "not in our table",
                                               "see the kernel log"};

const struct gpu_xid_row *gpu_xid_row(int code)
{
    for (size_t i = 0; i < ARRAY_LEN(xid_rows); i++)
        if (xid_rows[i].code == code)
            return &xid_rows[i];
    return &unknown_xid;
}

struct verdict {
    enum gpu_health health;
    char *reason;
};

/* The worse stays; of equals the first. */
static void found(struct verdict *v, enum gpu_health health, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void found(struct verdict *v, enum gpu_health health, const char *fmt, ...)
{
    if (health <= v->health)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(v->reason, GPU_NOTE_SIZE, fmt, ap);
    va_end(ap);
    v->health = health;
}

enum {
    THROTTLE_HARDWARE = 1 << 3 | 1 << 6 | 1 << 7, /* slowdown, thermal, power brake */
    RETIRED_MOST = 60,                            /* the maker exchanges a card from here */
};

enum gpu_health gpu_health_of(const struct gpu_health_in *in, char reason[GPU_NOTE_SIZE])
{
    struct verdict v = {GPU_HEALTH_OK, reason};
    const int64_t *n = in->numbers;
    reason[0] = '\0';
    if (in->state == GPU_DRIVER_HUNG)
        found(&v, GPU_HEALTH_FAILED, "its driver does not answer");
    if (in->state == GPU_ERROR)
        found(&v, GPU_HEALTH_FAILED, "its driver reports an error");
    if (n[GPU_REMAPPED_FAILED] == 1)
        found(&v, GPU_HEALTH_FAILED, "no spare memory rows are left: exchange the card");
    for (size_t i = 0; i < in->n_xids; i++) {
        const struct gpu_xid_row *row = gpu_xid_row(in->xids[i].code);
        int64_t age_us = in->now_us - in->xids[i].at_us;
        if (row->health != GPU_HEALTH_OK && age_us < row->heals_s * US_PER_S)
            found(&v, row->health, "XID %d: %s", in->xids[i].code, row->meaning);
    }
    if (in->ecc_uncorrected > 0)
        found(&v, GPU_HEALTH_DEGRADED, "%lld uncorrected memory errors since the driver was loaded",
              (long long)in->ecc_uncorrected);
    if (n[GPU_REMAPPED_PENDING] == 1 || n[GPU_RETIRED_PENDING] == 1)
        found(&v, GPU_HEALTH_DEGRADED, "bad memory waits for a reset to be set aside");
    if (n[GPU_RETIRED_SINGLE] + n[GPU_RETIRED_DOUBLE] >= RETIRED_MOST)
        found(&v, GPU_HEALTH_DEGRADED, "%lld memory pages are retired",
              (long long)(n[GPU_RETIRED_SINGLE] + n[GPU_RETIRED_DOUBLE]));
    if (n[GPU_THROTTLE] > 0 && (n[GPU_THROTTLE] & THROTTLE_HARDWARE) != 0)
        found(&v, GPU_HEALTH_DEGRADED, "it slows itself down: %s",
              (n[GPU_THROTTLE] & 1 << 7) != 0   ? "its power supply is short"
              : (n[GPU_THROTTLE] & 1 << 6) != 0 ? "it is too hot"
                                                : "it is too hot or short of power");
    if (n[GPU_TEMPERATURE_SLOWDOWN] > 0 && in->temperature_c >= n[GPU_TEMPERATURE_SLOWDOWN])
        found(&v, GPU_HEALTH_DEGRADED, "%d °C: it slows itself down from %lld °C",
              in->temperature_c, (long long)n[GPU_TEMPERATURE_SLOWDOWN]);
    return v.health;
}
