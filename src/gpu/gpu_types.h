/* One table of GPU types: "RTX4090" = "NVIDIA GeForce RTX 4090" = "rtx 4090" = "4090".
 * Case, blanks, dashes and the maker's words do not matter. No dependency but the C library.
 * Threads: any. */
#ifndef GPU_GPU_TYPES_H
#define GPU_GPU_TYPES_H

#include <stdbool.h>
#include <stddef.h>

enum { GPU_TYPE_SIZE = 96 };

/* The short type of a maker's name or of what a person typed. A name that the table does not know
 * passes as itself, trimmed. Writes to and returns to. */
const char *gpu_type_of(const char *name, char to[GPU_TYPE_SIZE]);
/* Do both name the same type? */
bool gpu_type_same(const char *a, const char *b);
/* Memory in GiB of the type's usual card, 0 when unknown or when it comes in several sizes. */
int gpu_type_memory_gib(const char *name);
/* The known types in the table's order, for help and completion; NULL at the end. */
const char *gpu_type_at(size_t i);

#endif
