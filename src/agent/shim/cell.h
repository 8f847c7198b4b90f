/* The cell of a job: namespaces of its own, in which it sees its own processes, a /dev with the
 * devices that it may use, private temporary folders, and nothing of Drover.
 *
 * The launcher makes a template once (cell_prepare): a mount namespace in which Drover's folders
 * are covered and /dev is a small one. It and the shims live there: they reach their folders by
 * descriptors that were opened before. A job's namespaces are a copy of the template, made by the
 * job's init, which is process 1 in it, does the few mounts that differ, waits for orphans, and
 * ends when the shim tells it that the command has ended. The command is a child of the shim, not
 * of the init: its pid, exit code and signals are what they are without a cell.
 *
 * Without root the template lies in a user namespace that maps only this user; where the kernel
 * allows neither there is no cell, and the facts say so.
 *
 * Protocol sources: namespaces(7), user_namespaces(7), pid_namespaces(7), mount_namespaces(7),
 * open_tree(2), mount_setattr(2). Plain C library only. Threads: one. */
#ifndef AGENT_SHIM_CELL_H
#define AGENT_SHIM_CELL_H

#include "agent/folder.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What is in force, as bits; tried out once, by a job that looks. */
enum cell_fact {
    CELL_USER = 1,       /* jobs can get a user of their own */
    CELL_SPACES = 2,     /* mount, pid, ipc and uts namespaces */
    CELL_PRIVILEGES = 4, /* no capabilities, no new privileges */
    CELL_CALLS = 8,      /* the filter of system calls */
};
struct cell_house {
    const char *jobs;        /* the attempts' folders; `homes` lies beside it */
    const char *const *hide; /* paths that no job sees, NULL-terminated */
};
/* By the launcher, once. Returns enum cell_fact bits. */
int cell_prepare(const struct cell_house *h);

struct cell {
    pid_t init; /* 0: none */
    int pidfd;  /* of the init */
    int ready;  /* read end: one byte CELL_READY, or a text that says what went wrong */
};
enum { CELL_READY = 1 };
/* By the shim: makes the init; children made after it are in the cell's pid namespace. False:
 * errno. Nothing happens (init 0) where the template has no namespaces or the spec wants none. */
bool cell_open(struct cell *c, const struct spec *spec);
/* By the command's process: waits for the init and enters. False: text says why. */
bool cell_enter(const struct cell *c, char text[DETAIL_SIZE]);
/* By the shim, when the command has ended: the init goes when nothing is left. */
void cell_leave(const struct cell *c);

#endif
