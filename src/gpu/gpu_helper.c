/* The helper process: holds a maker's library and answers one question, "sample now".
 *
 * It is this program started again by gpu_remote.c with the socket as descriptor 3. It lives no
 * longer than the thread that started it (the kernel kills it with that), says every step into the
 * driver before it takes it, and never frees what a driver may still hold: it leaves by _exit(). */
#include "gpu/gpu_nvml.h"

#include "gpu/gpu_source.h"

#include "base/str.h"
#include "base/world.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REOPEN_AFTER_S = 30 }; /* a GPU in error may have been reset meanwhile */

static void say(const uint8_t *packet, size_t n)
{
    ssize_t sent;
    do
        sent = send(GPU_WIRE_SOCKET, packet, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        _exit(0); /* nobody listens any more */
}

static void say_entering(const char *call, int gpu, bool starting)
{
    uint8_t packet[GPU_WIRE_MAX];
    say(packet, gpu_wire_call(packet, call, gpu, starting));
}

static uint32_t round_now; /* the one that is answered */

static void say_gpu(const struct gpu_told *told)
{
    uint8_t packet[GPU_WIRE_MAX];
    say(packet, gpu_wire_gpu(packet, round_now, told));
}

static void say_xid(int gpu, int64_t xid)
{
    uint8_t packet[GPU_WIRE_MAX];
    say(packet, gpu_wire_xid(packet, gpu, xid));
}

static bool skipped(uint64_t skip, int gpu)
{
    return (skip >> gpu & 1) != 0;
}

/* GPUs first and their instances after all of them, so that indexes rise. True: all are well. */
static bool sample(struct nvml *n, uint64_t skip)
{
    uint8_t packet[GPU_WIRE_MAX];
    static struct gpu_told told;
    char note[GPU_NOTE_SIZE] = "";
    int64_t count = nvml_count(n, note);
    bool well = count >= 0;
    int room = GPU_MAX;
    for (int i = 0; i < count && i < GPU_MAX; i++)
        if (!skipped(skip, i) && nvml_read(n, i, &told)) {
            say_gpu(&told);
            room--;
            well = well && told.state == GPU_OK;
        }
    for (int i = 0; i < count && i < GPU_MAX && room >= GPU_MIG_MAX; i++)
        if (!skipped(skip, i))
            room -= nvml_read_instances(n, i, &told, say_gpu);
    nvml_xids(n, say_xid);
    say(packet, gpu_wire_end(packet, round_now, count, note));
    return well;
}

bool gpu_helper_wanted(int argc, char **argv)
{
    return argc == 4 && strcmp(argv[1], GPU_HELPER_ARG) == 0;
}

int gpu_helper_main(int argc, char **argv)
{
    int64_t parent = 0;
    if (argc != 4 || strcmp(argv[2], gpu_driver_nvml.name) != 0 || !str_int(argv[3], &parent))
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        return 0; /* it died before the line above */
    prctl(PR_SET_NAME, "drover-gpu");
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);

    struct nvml *n = NULL;
    int64_t opened_us = 0;
    bool well = true;
    for (;;) {
        uint8_t packet[GPU_WIRE_MAX];
        uint64_t skip;
        ssize_t got = recv(GPU_WIRE_SOCKET, packet, sizeof(packet), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || !gpu_wire_ask_decode(packet, (size_t)got, &round_now, &skip))
            _exit(0);
        if (n != NULL && !well && mono_us() - opened_us > REOPEN_AFTER_S * US_PER_S) {
            nvml_close(n);
            n = NULL;
        }
        if (n == NULL) {
            char note[GPU_NOTE_SIZE] = "";
            n = nvml_open(say_entering, note);
            opened_us = mono_us();
            if (n == NULL) {
                say(packet, gpu_wire_absent(packet, note));
                _exit(0);
            }
        }
        well = sample(n, skip);
    }
}
