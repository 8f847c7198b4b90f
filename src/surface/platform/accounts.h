/* The documented account object (contract 3.1, UserRead), for struct user. */
#ifndef SURFACE_PLATFORM_ACCOUNTS_H
#define SURFACE_PLATFORM_ACCOUNTS_H

#include "core/view.h"

extern const struct view user_read;

#endif
