/* A library to preload that makes the disk of one folder full, broken or slow, and well again.
 *
 *   LD_PRELOAD=libfaultfs.so FAULTFS_PREFIX=/tmp/x/data FAULTFS_CONTROL=/tmp/x/fault program
 *
 *   FAULTFS_PREFIX   files whose path (symbolic links resolved) starts with this; none if unset
 *   FAULTFS_CONTROL  while this file exists the faults are on; its words say which:
 *
 *     write=ERRNO    writes fail (ENOSPC, EDQUOT, EIO or EROFS)
 *     room=BYTES     … only after this many bytes more; the write that crosses the limit is
 *                    short, as on a real disk. Counted in each process, from anew when the
 *                    control file changes
 *     sync=ERRNO     fsync and fdatasync fail, after the data went to the kernel
 *     delay_ms=N     each fsync and fdatasync takes this much longer (alone it fails nothing)
 *
 *   An empty control file means write=ENOSPC sync=ENOSPC. Put it in place with rename(2), and
 *   outside the prefix, so that the program never reads half of it.
 *
 * Covered: write, writev, pwrite, pwritev, fallocate, posix_fallocate, ftruncate that grows,
 * fsync, fdatasync and their 64-bit names. Not covered: stdio (it does not call write through the
 * linker), mmap, sendfile, copy_file_range, io_uring, opening and renaming.
 *
 * Under AddressSanitizer set ASAN_OPTIONS=verify_asan_link_order=0.
 */
#undef _FILE_OFFSET_BITS /* else one function would get the linker name of the other */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct orders {
    int write_errno, sync_errno;
    long delay_ms;
    int64_t room;     /* -1: none at all */
    uint64_t version; /* of the control file */
};

static _Atomic uint64_t counted_version;
static _Atomic int64_t counted_bytes;

static int errno_of(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } names[] = {{"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EIO", EIO}, {"EROFS", EROFS}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(name, names[i].name, strlen(names[i].name)) == 0)
            return names[i].number;
    fprintf(stderr, "faultfs: unknown errno in the control file: %s\n", name);
    abort();
}

/* Raw system calls: the library's own reads must not come back to it. */
static bool read_orders(struct orders *o)
{
    const char *control = getenv("FAULTFS_CONTROL");
    if (control == NULL)
        return false;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return false;
    char text[256];
    struct stat st;
    long n = syscall(SYS_read, fd, text, sizeof(text) - 1);
    bool ok = n >= 0 && fstat(fd, &st) == 0;
    syscall(SYS_close, fd);
    if (!ok)
        return false;
    text[n] = '\0';
    *o = (struct orders){.room = -1};
    o->version = (uint64_t)st.st_ino * 1000003 + (uint64_t)st.st_mtim.tv_sec * 1000000007 +
                 (uint64_t)st.st_mtim.tv_nsec;
    bool any = false;
    for (const char *at = text; *at != '\0';) {
        size_t length = strcspn(at, " \n");
        if (strncmp(at, "write=", 6) == 0)
            o->write_errno = errno_of(at + 6);
        else if (strncmp(at, "sync=", 5) == 0)
            o->sync_errno = errno_of(at + 5);
        else if (strncmp(at, "delay_ms=", 9) == 0)
            o->delay_ms = strtol(at + 9, NULL, 10);
        else if (strncmp(at, "room=", 5) == 0)
            o->room = strtoll(at + 5, NULL, 10);
        any |= length > 0;
        at += length;
        at += strspn(at, " \n");
    }
    if (!any)
        o->write_errno = o->sync_errno = ENOSPC;
    return true;
}

static bool ours(int fd)
{
    const char *prefix = getenv("FAULTFS_PREFIX");
    if (prefix == NULL || *prefix == '\0')
        return false;
    char link[64], path[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n < 0)
        return false;
    path[n] = '\0';
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

/* How many of `want` bytes may be written; -1 with errno when none. */
static ssize_t allowed(int fd, size_t want)
{
    int saved = errno;
    struct orders o;
    if (!read_orders(&o) || o.write_errno == 0 || !ours(fd)) {
        errno = saved;
        return (ssize_t)want;
    }
    if (o.room >= 0) {
        if (atomic_exchange(&counted_version, o.version) != o.version)
            counted_bytes = 0;
        int64_t left = o.room - atomic_fetch_add(&counted_bytes, (int64_t)want);
        if (left > 0) {
            errno = saved;
            return left < (int64_t)want ? (ssize_t)left : (ssize_t)want;
        }
    }
    errno = o.write_errno;
    return -1;
}

static int sync_fault(int fd)
{
    int saved = errno;
    struct orders o;
    if (read_orders(&o) && ours(fd)) {
        if (o.delay_ms > 0) {
            struct timespec t = {o.delay_ms / 1000, o.delay_ms % 1000 * 1000000};
            nanosleep(&t, NULL);
        }
        if (o.sync_errno != 0) {
            errno = o.sync_errno;
            return -1;
        }
    }
    errno = saved;
    return 0;
}

#define NEXT(name, ...)                                                                            \
    ({                                                                                             \
        static _Atomic(void *) next_;                                                              \
        if (next_ == NULL)                                                                         \
            next_ = dlsym(RTLD_NEXT, #name);                                                       \
        ((__typeof__(&name))next_)(__VA_ARGS__);                                                   \
    })

ssize_t write(int fd, const void *p, size_t n)
{
    ssize_t may = allowed(fd, n);
    return may < 0 ? -1 : NEXT(write, fd, p, (size_t)may);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    ssize_t may = allowed(fd, n);
    return may < 0 ? -1 : NEXT(pwrite, fd, p, (size_t)may, at);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    ssize_t may = allowed(fd, n);
    return may < 0 ? -1 : NEXT(pwrite64, fd, p, (size_t)may, at);
}

/* The vectors fail or pass whole: a short one needs no other code in a caller than a short
 * write. */
static bool vector_allowed(int fd, const struct iovec *v, int count)
{
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += v[i].iov_len;
    ssize_t may = allowed(fd, n);
    if (may >= 0 && (size_t)may < n)
        errno = ENOSPC;
    return may >= 0 && (size_t)may == n;
}

ssize_t writev(int fd, const struct iovec *v, int count)
{
    return vector_allowed(fd, v, count) ? NEXT(writev, fd, v, count) : -1;
}

ssize_t pwritev(int fd, const struct iovec *v, int count, off_t at)
{
    return vector_allowed(fd, v, count) ? NEXT(pwritev, fd, v, count, at) : -1;
}

ssize_t pwritev64(int fd, const struct iovec *v, int count, off64_t at)
{
    return vector_allowed(fd, v, count) ? NEXT(pwritev64, fd, v, count, at) : -1;
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
    return allowed(fd, (size_t)n) == n ? NEXT(fallocate, fd, mode, at, n) : -1;
}

int fallocate64(int fd, int mode, off64_t at, off64_t n)
{
    return allowed(fd, (size_t)n) == n ? NEXT(fallocate64, fd, mode, at, n) : -1;
}

int posix_fallocate(int fd, off_t at, off_t n)
{
    return allowed(fd, (size_t)n) == n ? NEXT(posix_fallocate, fd, at, n) : ENOSPC;
}

int posix_fallocate64(int fd, off64_t at, off64_t n)
{
    return allowed(fd, (size_t)n) == n ? NEXT(posix_fallocate64, fd, at, n) : ENOSPC;
}

static bool grow_allowed(int fd, int64_t to)
{
    struct stat st;
    return fstat(fd, &st) != 0 || to <= st.st_size || allowed(fd, 0) == 0;
}

int ftruncate(int fd, off_t to)
{
    return grow_allowed(fd, to) ? NEXT(ftruncate, fd, to) : -1;
}

int ftruncate64(int fd, off64_t to)
{
    return grow_allowed(fd, to) ? NEXT(ftruncate64, fd, to) : -1;
}

int fsync(int fd)
{
    int rc = NEXT(fsync, fd);
    return rc != 0 ? rc : sync_fault(fd);
}

int fdatasync(int fd)
{
    int rc = NEXT(fdatasync, fd);
    return rc != 0 ? rc : sync_fault(fd);
}
