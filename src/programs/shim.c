/* drover-shim FOLDER supervises one attempt; drover-shim --launcher FD JOBS off|on [HIDE…] padding
 * forks shims for an agent, and isolates what they start. See agent/shim/shim.h. */
#include "agent/shim/cell.h"
#include "agent/shim/shim.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    /* Standard descriptors must exist, or the first pipe would become one of them. */
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return 1;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("drover-shim " DROVER_VERSION);
        return 0;
    }
    if (argc >= 6 && strcmp(argv[1], "--launcher") == 0) {
        int fd = (int)strtol(argv[2], NULL, 10);
        bool isolate = strcmp(argv[4], "on") == 0;
        char **hide = calloc((size_t)argc, sizeof(*hide));
        struct cell_house house = {.jobs = strdup(argv[3]), .hide = (const char *const *)hide};
        if (fd < 3 || house.jobs == NULL || hide == NULL)
            return 2;
        for (int i = 5; i < argc - 1; i++) /* copies: shims write their titles over these */
            if ((hide[i - 5] = strdup(argv[i])) == NULL)
                return 2;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        char *end = argv[argc - 1] + strlen(argv[argc - 1]);
        return launcher_main(fd, &house, isolate, argv[0], (size_t)(end - argv[0]));
    }
    if (argc != 2 || argv[1][0] == '-') {
        fputs("usage: drover-shim FOLDER\n"
              "Supervises one attempt of a job; drover-agent starts it.\n",
              stderr);
        return 2;
    }
    return shim_main(AT_FDCWD, argv[1]);
}
