/* drover-agent: the program on each GPU host. See agent/agent.h. */
#include "agent/agent.h"
#include "agent/isolation.h"
#include "agent/join.h"
#include "agent/stream.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "gpu/gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: drover-agent --server URL --join TOKEN [options]     (once on each host)\n"
    "       drover-agent [options]                               (from then on)\n"
    "Runs jobs on this host for a Drover server. Make a token there: drover agent token\n"
    "\n"
    "  --server URL         http(s)://HOST:PORT, or unix:PATH on the server's own host;\n"
    "                       kept when it joins, so that it need not be given again\n"
    "  --join TOKEN         joins with this token, keeps a credential of its own, and goes on\n"
    "  --join-file FILE     the same with the token in a file (- for standard input)\n"
    "  --join-only          ends when it has joined\n"
    "  --data DIR           this agent's state and the logs of running jobs\n"
    "                       (default: /var/lib/drover-agent, or ~/.drover-agent if not root)\n"
    "  --name NAME          of this node (default: the host's name)\n"
    "  --ca FILE            PEM authorities that the server's certificate must lead to\n"
    "                       (default: the system's)\n"
    "  --cert FILE --key FILE   client certificate, where the server asks for one\n"
    "  --page ADDRESS:PORT  this host's own read-only page, also without a server\n"
    "                       (default: 127.0.0.1:7417; off: none)\n"
    "  --page-token-file FILE   demands this bearer token; needed off loopback\n"
    "  --gpu SOURCE         nvml (default), simulated[:N], or none\n"
    "  --shim PATH          drover-shim (default: beside this program)\n"
    "  --token-file FILE    a bearer credential instead of the kept one\n"
    "  --log-level LEVEL    debug, info (default), warning, error\n"
    "  --isolation MODE     of jobs: strict (default), basic, or off (docs/isolation.md)\n"
    "  --job-user ACCOUNT   jobs run as it, when the agent is root and the mode strict\n"
    "  --allow-profiling    jobs may use perf, bpf, userfaultfd and io_uring\n"
    "  --local              belongs to a server on this host and ends with it\n"
    "  --once-idle-exit     ends when every job it was given is done and forgotten\n"
    "  --version, --help\n"
    "\n"
    "Ends with 0 when asked to, 75 when another agent has the folder, 78 when it has no "
    "credential\n"
    "(join first) or the node was removed from the fleet.\n";

enum { TOKEN_MAX = 4096, EXIT_USAGE = 2, EXIT_TAKEN = 75, EXIT_NOT_JOINED = 78 };

static int fail(const char *text)
{
    fprintf(stderr, "drover-agent: %s\nTry drover-agent --help.\n", text);
    return EXIT_USAGE;
}

static char *read_token(const char *path)
{
    char *text = mem_alloc(TOKEN_MAX + 1);
    int fd = strcmp(path, "-") == 0 ? dup(0) : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, TOKEN_MAX) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? strcspn(text, "\r\n \t") : 0] = '\0';
    return text;
}

/* drover-shim beside this program. */
static char *own_shim(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n <= 0)
        return mem_strdup("drover-shim");
    path[n] = '\0';
    *strrchr(path, '/') = '\0';
    return mem_printf("%s/drover-shim", path);
}

static const char *own_data(void)
{
    const char *home = getenv("HOME");
    if (geteuid() == 0 || home == NULL || *home != '/')
        return "/var/lib/drover-agent";
    return mem_printf("%s/.drover-agent", home);
}

int main(int argc, char **argv)
{
    if (gpu_helper_wanted(argc, argv))
        return gpu_helper_main(argc, argv);
    enum {
        SERVER = 256,
        JOIN,
        JOIN_FILE,
        JOIN_ONLY,
        CA,
        CERT,
        KEY,
        PAGE,
        PAGE_TOKEN,
        TOKEN,
        DATA,
        GPU,
        NAME,
        SHIM
    };
    enum { LEVEL = SHIM + 1, ISOLATION, JOB_USER, PROFILING, STREAM, LOCAL, ONCE, VERSION, HELP };
    static const struct option options[] = {
        {"server", required_argument, NULL, SERVER},
        {"join", required_argument, NULL, JOIN},
        {"join-file", required_argument, NULL, JOIN_FILE},
        {"join-only", no_argument, NULL, JOIN_ONLY},
        {"ca", required_argument, NULL, CA},
        {"cert", required_argument, NULL, CERT},
        {"key", required_argument, NULL, KEY},
        {"page", required_argument, NULL, PAGE},
        {"page-token-file", required_argument, NULL, PAGE_TOKEN},
        {"token-file", required_argument, NULL, TOKEN},
        {"data", required_argument, NULL, DATA},
        {"gpu", required_argument, NULL, GPU},
        {"name", required_argument, NULL, NAME},
        {"shim", required_argument, NULL, SHIM},
        {"log-level", required_argument, NULL, LEVEL},
        {"isolation", required_argument, NULL, ISOLATION},
        {"job-user", required_argument, NULL, JOB_USER},
        {"allow-profiling", no_argument, NULL, PROFILING},
        {"local", no_argument, NULL, LOCAL},
        {"once-idle-exit", no_argument, NULL, ONCE},
        {"stream", no_argument, NULL, STREAM},
        {"version", no_argument, NULL, VERSION},
        {"help", no_argument, NULL, HELP},
        {0}};
    static struct agent_config c = {
        .gpu = "nvml", .isolation = ISOLATION_STRICT}; /* its texts live as long as the program */
    enum log_level level = LOG_INFO;
    bool stream = false;
    c.argv = argv;
    struct err e;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (o) {
        case SERVER:
            c.server = optarg;
            if (dial_parse(optarg, &c.to, &e) != OK)
                return fail(e.text);
            break;
        case JOIN:
            c.join = optarg;
            break;
        case JOIN_FILE:
            c.join = read_token(optarg);
            if (*c.join == '\0')
                return fail("--join-file: the file cannot be read or is empty");
            break;
        case JOIN_ONLY:
            c.join_only = true;
            break;
        case CA:
            c.to.ca = optarg;
            break;
        case CERT:
            c.to.cert = optarg;
            break;
        case KEY:
            c.to.key = optarg;
            break;
        case PAGE:
            c.page = optarg;
            break;
        case PAGE_TOKEN:
            c.page_token = read_token(optarg);
            if (*c.page_token == '\0')
                return fail("--page-token-file: the file cannot be read or is empty");
            break;
        case TOKEN:
            c.token_file = optarg;
            c.token = read_token(optarg);
            if (*c.token == '\0')
                return fail("--token-file: the file cannot be read or is empty");
            break;
        case DATA:
            c.data = optarg;
            break;
        case GPU:
            c.gpu = optarg;
            break;
        case NAME:
            c.name = optarg;
            break;
        case SHIM:
            c.shim = optarg;
            break;
        case LEVEL:
            if (!log_level_parse(optarg, &level))
                return fail("--log-level must be debug, info, warning or error");
            break;
        case ISOLATION:
            if (!isolation_parse(optarg, &c.isolation))
                return fail("--isolation must be strict, basic or off");
            break;
        case JOB_USER:
            c.job_user = optarg;
            break;
        case PROFILING:
            c.profiling = true;
            break;
        case LOCAL:
            c.local = true;
            break;
        case STREAM: /* for the agent's own use: agent/stream.h */
            stream = true;
            break;
        case ONCE:
            c.once_idle_exit = true;
            break;
        case VERSION:
            puts("drover-agent " DROVER_VERSION);
            return 0;
        case HELP:
            fputs(usage, stdout);
            return 0;
        default:
            return fail("unknown option");
        }
    if (optind < argc)
        return fail("unexpected argument");
    if (c.join_only && c.join == NULL)
        return fail("--join-only goes with --join or --join-file");
    if ((c.to.cert == NULL) != (c.to.key == NULL))
        return fail("--cert and --key go together");
    if (c.page == NULL && c.to.unix_path[0] == '\0')
        c.page = "127.0.0.1:7417"; /* beside a server on this host there is the server's page */
    if (c.page != NULL && strcmp(c.page, "off") == 0)
        c.page = NULL;
    if (c.data == NULL)
        c.data = own_data();
    static char *beside; /* lives as long as the program */
    if (c.shim == NULL)
        c.shim = beside = own_shim();
    if (access(c.shim, X_OK) != 0)
        return fail("drover-shim is not beside this program: build it, or name it with --shim");
    log_setup(level, false, NULL);
    if (stream) {
        static struct credential own; /* its secret is the configuration's token */
        if (credential_of_data(&c, &own, &e) != OK)
            return fail(e.text);
        return stream_main(&c);
    }
    int k = agent_run(&c, &e);
    if (k == OK)
        return 0;
    log_error("agent", "%s", e.text);
    return k == ERR_CONFLICT && e.code[0] == '\0' ? EXIT_TAKEN
           : k == ERR_UNAUTHENTICATED             ? EXIT_NOT_JOINED
                                                  : 1;
}
