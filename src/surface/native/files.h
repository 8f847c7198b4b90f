/* The store of code and results, for the routes of jobs. Threads: any. */
#ifndef SURFACE_NATIVE_FILES_H
#define SURFACE_NATIVE_FILES_H

#include "core/house.h"

/* Such a tree is kept for this owner. */
bool files_tree_there(const struct house *h, int64_t owner, const char *id);

#endif
