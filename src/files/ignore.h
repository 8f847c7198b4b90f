/* Which files a sync leaves out: patterns as .gitignore has them, from .gitignore and .droverignore
 * of every folder (the second one counts more). ".git" is always left out.
 *
 * Source: gitignore(5): "#" comments, "!" takes back, "/" at the beginning or inside anchors to the
 * folder of the file, "/" at the end means folders, "**" any number of folders; the last pattern
 * that fits decides; what lies in a folder that is left out cannot be taken back. Threads: one. */
#ifndef FILES_IGNORE_H
#define FILES_IGNORE_H

#include "base/mem.h"

struct ignore {
    struct arena arena;
    struct ignore_rule *first, *last;
};
/* text: of a file in folder ("" the root, "a/b"). */
void ignore_add(struct ignore *g, const char *folder, const char *text, size_t n);
bool ignore_has(const struct ignore *g, const char *path, bool is_folder);
void ignore_fini(struct ignore *g);

#endif
