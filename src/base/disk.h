/* The floor of a disk: what logs leave free, so that the database (cancel, ends of jobs, leases)
 * can still be written when jobs have printed all the rest full.
 *
 * Two users stand above each other on one disk: what jobs print stops at the floor, the server's
 * copy of it at half of it, so that the line that says so still reaches the server.
 *
 * Pure and inline, because the shim links nothing else. Threads: any.
 */
#ifndef BASE_DISK_H
#define BASE_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/statvfs.h>

/* The setting's name, in the environment of server and agent alike. */
#define DISK_FLOOR_NAME "DISK_FLOOR_MIB"
enum { DISK_FLOOR_AUTO = -1 };

struct disk_room { /* bytes */
    uint64_t total;
    uint64_t free; /* for programs that are not root */
    uint64_t floor;
};

/* A twentieth, at least 16 MiB and at most 1 GiB, and never more than a quarter of the disk. */
static inline uint64_t disk_floor(uint64_t total, int64_t floor_mib)
{
    const uint64_t mib = 1 << 20;
    uint64_t floor = total / 20;
    if (floor_mib != DISK_FLOOR_AUTO)
        return floor_mib > 0 ? (uint64_t)floor_mib * mib : 0;
    if (floor < 16 * mib)
        floor = 16 * mib;
    if (floor > 1024 * mib)
        floor = 1024 * mib;
    return floor > total / 4 ? total / 4 : floor;
}

/* Of the disk that fd lies on. False: it cannot be told, which stops nobody. */
static inline bool disk_room_of(int fd, int64_t floor_mib, struct disk_room *out)
{
    struct statvfs v;
    if (floor_mib == 0 || fstatvfs(fd, &v) != 0 || v.f_blocks == 0)
        return false;
    *out = (struct disk_room){.total = (uint64_t)v.f_blocks * v.f_frsize,
                              .free = (uint64_t)v.f_bavail * v.f_frsize};
    out->floor = disk_floor(out->total, floor_mib);
    return true;
}

static inline int64_t disk_floor_of_environment(void)
{
    const char *text = getenv(DISK_FLOOR_NAME);
    return text != NULL && *text != '\0' ? strtoll(text, NULL, 10) : DISK_FLOOR_AUTO;
}

#endif
