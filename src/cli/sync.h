/* Trees between this machine and the server's store. Threads: one. */
#ifndef CLI_SYNC_H
#define CLI_SYNC_H

#include "cli/context.h"
#include "files/sync.h"

/* Sends a folder (without what .gitignore and .droverignore leave out) and tells its tree's id. */
int sync_folder(struct cli *c, struct client *client, const char *dir, char id[TREE_ID_SIZE],
                struct err *e);
/* What an ended job left, or one path of it, into a folder here. */
int sync_results(struct cli *c, struct client *client, const char *job, const char *path,
                 const char *target, struct err *e);

#endif
