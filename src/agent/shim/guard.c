/* Users, capabilities and the filter of system calls.
 *
 * The filter is a list of what is refused, not of what is allowed: training programs use most of
 * the kernel's calls, and a list of the allowed would break them with each new C library. What is
 * on it changes the machine (mounts, modules, clocks, other namespaces) or is a known way around a
 * namespace. What must stay true: a call that is refused gives EPERM, so programs that ask and
 * fall back go on; another architecture's numbers give ENOSYS, since they would mean other calls.
 */
#include "agent/shim/guard.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { GROUPS_MAX = 256 };

static bool become(const struct guard *g)
{
    gid_t groups[GROUPS_MAX];
    size_t n = 0;
    for (const char *at = g->groups; at != NULL && *at != '\0' && n < GROUPS_MAX;) {
        char *end;
        groups[n++] = (gid_t)strtoul(at, &end, 10);
        at = *end == ',' ? end + 1 : NULL;
    }
    return setgroups(n, groups) == 0 && setresgid(g->gid, g->gid, g->gid) == 0 &&
           setresuid(g->uid, g->uid, g->uid) == 0;
}

const char *guard_user(const struct guard *g)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    /* The bounding set needs a capability, so it goes first; who lacks that one has nothing that
     * could be gained, since exec gains nothing any more. */
    for (unsigned long c = 0; prctl(PR_CAPBSET_DROP, c, 0, 0, 0) == 0; c++)
        continue;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (g->uid != 0 && !become(g))
        return "become the job's user";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return "give up new privileges";
    if (syscall(SYS_capset, &head, none) != 0)
        return "give up its capabilities";
    return NULL;
}

/* ---- system calls ---- */

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#define X32_BIT  0x40000000
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#else
#error "the list of refused calls is written for x86-64 and arm64"
#endif

static const int refused[] = {
    /* mounts and namespaces */
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_open_tree, SYS_move_mount, SYS_fsopen, SYS_fsconfig,
    SYS_fsmount, SYS_fspick, SYS_mount_setattr, SYS_setns, SYS_chroot, SYS_open_by_handle_at,
    /* the machine */
    SYS_reboot, SYS_kexec_load, SYS_kexec_file_load, SYS_init_module, SYS_finit_module,
    SYS_delete_module, SYS_swapon, SYS_swapoff, SYS_acct, SYS_quotactl, SYS_quotactl_fd,
    SYS_settimeofday, SYS_clock_settime, SYS_syslog, SYS_sethostname, SYS_setdomainname,
    SYS_vhangup, SYS_nfsservctl, SYS_lookup_dcookie,
#if defined(__x86_64__)
    SYS_iopl, SYS_ioperm, SYS__sysctl, SYS_uselib,
#endif
    /* keys belong to a user, not to a job */
    SYS_add_key, SYS_keyctl, SYS_request_key};

/* Large parts of the kernel that few programs need, and profilers do. */
static const int refused_unless_profiling[] = {SYS_perf_event_open, SYS_bpf,
                                               SYS_userfaultfd,     SYS_io_uring_setup,
                                               SYS_io_uring_enter,  SYS_io_uring_register};

/* Which argument holds the mode of a file. */
static const struct {
    int call, mode;
} mode_calls[] = {
#if defined(__x86_64__)
    {SYS_chmod, 1},     {SYS_creat, 1},    {SYS_open, 2},   {SYS_mknod, 1},   {SYS_mkdir, 1},
#endif
    {SYS_fchmod, 1},    {SYS_fchmodat, 2}, {SYS_openat, 3}, {SYS_mknodat, 2}, {SYS_mkdirat, 2},
#ifdef SYS_fchmodat2
    {SYS_fchmodat2, 2},
#endif
};
enum {
    NEW_SPACES = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                 CLONE_NEWUTS | CLONE_NEWCGROUP,
    SET_ID = 06000
};

struct program {
    struct sock_filter at[256];
    unsigned short n;
};

static void put(struct program *p, struct sock_filter step)
{
    p->at[p->n++] = step;
}

static void put_if_call(struct program *p, int call, int error)
{
    put(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1));
    put(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
                                        SECCOMP_RET_ERRNO | ((unsigned)error & SECCOMP_RET_DATA)));
}

/* Refuses the call when its argument has one of these bits. The number is loaded again after. */
static void put_if_bits(struct program *p, int call, int argument, unsigned bits)
{
    /* The low half of an argument; both architectures are little-endian. */
    unsigned at = (unsigned)offsetof(struct seccomp_data, args) + 8u * (unsigned)argument;
    put(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 4));
    put(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at));
    put(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1));
    put(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
    put(p,
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
}

const char *guard_calls(const struct guard *g)
{
    struct program p = {.n = 0};
    put(&p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                         offsetof(struct seccomp_data, arch)));
    put(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0));
    put(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
    put(&p,
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
#ifdef X32_BIT
    put(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1));
    put(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
#endif
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        put_if_call(&p, refused[i], EPERM);
    for (size_t i = 0; !g->profiling && i < sizeof(refused_unless_profiling) / sizeof(int); i++)
        put_if_call(&p, refused_unless_profiling[i], EPERM);
    /* clone3 has its flags in memory, where a filter cannot look: C libraries fall back to clone.
     * openat2 likewise, for the mode. */
    put_if_call(&p, SYS_clone3, ENOSYS);
    put_if_bits(&p, SYS_clone, 0, NEW_SPACES);
    put_if_bits(&p, SYS_unshare, 0, NEW_SPACES);
    if (g->no_set_id) {
        put_if_call(&p, SYS_openat2, ENOSYS);
        for (size_t i = 0; i < sizeof(mode_calls) / sizeof(mode_calls[0]); i++)
            put_if_bits(&p, mode_calls[i].call, mode_calls[i].mode, SET_ID);
    }
    put(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    struct sock_fprog whole = {.len = p.n, .filter = p.at};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &whole) != 0 &&
                   prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole) != 0
               ? "filter its system calls"
               : NULL;
}
