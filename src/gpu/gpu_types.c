/* The one table of GPU types and how a name is brought to its row.
 *
 * A name is cut into words; words that only name the maker, the family or the form of the card
 * ("NVIDIA", "GeForce", "SXM4", "80GB") are dropped and the rest is joined: what is left must equal
 * a row's key. Words that make another chip of it ("Laptop", "Ti", "Super", "Ada") stay, so that a
 * laptop's 4090 is never taken for the card. */
#include "gpu/gpu_types.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct type_row {
    const char *type;
    const char *keys[3]; /* what may be left of a name; the first is the type in small letters */
    int memory_gib;      /* 0: comes in several sizes */
};

static const struct type_row types[] = {
    /* data centre, NVIDIA */
    {"B300", {"b300"}, 288},
    {"B200", {"b200"}, 0},
    {"B100", {"b100"}, 192},
    {"GB200", {"gb200"}, 0},
    {"GH200", {"gh200"}, 0},
    {"H200", {"h200"}, 141},
    {"H100", {"h100"}, 80},
    {"H800", {"h800"}, 80},
    {"H20", {"h20"}, 96},
    {"A100", {"a100", "a100x"}, 0},
    {"A800", {"a800"}, 80},
    {"A40", {"a40"}, 48},
    {"A30", {"a30", "a30x"}, 24},
    {"A16", {"a16"}, 16},
    {"A10", {"a10"}, 24},
    {"A10G", {"a10g"}, 24},
    {"A2", {"a2"}, 16},
    {"L40S", {"l40s"}, 48},
    {"L40", {"l40"}, 48},
    {"L20", {"l20"}, 48},
    {"L4", {"l4"}, 24},
    {"L2", {"l2"}, 24},
    {"V100", {"v100", "v100s"}, 0},
    {"T4", {"t4"}, 16},
    {"P100", {"p100"}, 0},
    {"P40", {"p40"}, 24},
    {"P4", {"p4"}, 8},
    {"M60", {"m60"}, 8},
    {"K80", {"k80"}, 12},
    /* workstation, NVIDIA: the same number is another chip in each generation */
    {"RTXPRO6000", {"rtxpro6000", "rtxpro6000blackwell"}, 96},
    {"RTX6000ADA", {"rtx6000ada", "6000ada"}, 48},
    {"RTX5880ADA", {"rtx5880ada", "5880ada"}, 48},
    {"RTX5000ADA", {"rtx5000ada", "5000ada"}, 32},
    {"RTX4500ADA", {"rtx4500ada", "4500ada"}, 24},
    {"RTX4000ADA", {"rtx4000ada", "4000ada", "rtx4000sffada"}, 20},
    {"RTX2000ADA", {"rtx2000ada", "2000ada"}, 16},
    {"A6000", {"a6000", "rtxa6000"}, 48},
    {"A5500", {"a5500", "rtxa5500"}, 24},
    {"A5000", {"a5000", "rtxa5000"}, 24},
    {"A4500", {"a4500", "rtxa4500"}, 20},
    {"A4000", {"a4000", "rtxa4000"}, 16},
    {"A2000", {"a2000", "rtxa2000"}, 0},
    {"RTX8000", {"rtx8000"}, 48},
    {"RTX6000", {"rtx6000"}, 24},
    {"RTX5000", {"rtx5000"}, 16},
    {"RTX4000", {"rtx4000"}, 8},
    {"TITANV", {"titanv"}, 12},
    {"TITANRTX", {"titanrtx"}, 24},
    /* desktop, NVIDIA */
    {"RTX5090", {"rtx5090", "5090"}, 32},
    {"RTX5080", {"rtx5080", "5080"}, 16},
    {"RTX5070TI", {"rtx5070ti", "5070ti"}, 16},
    {"RTX5070", {"rtx5070", "5070"}, 12},
    {"RTX4090", {"rtx4090", "4090"}, 24},
    {"RTX4090D", {"rtx4090d", "4090d"}, 24},
    {"RTX4080SUPER", {"rtx4080super", "4080super"}, 16},
    {"RTX4080", {"rtx4080", "4080"}, 16},
    {"RTX4070TISUPER", {"rtx4070tisuper", "4070tisuper"}, 16},
    {"RTX4070TI", {"rtx4070ti", "4070ti"}, 12},
    {"RTX4070SUPER", {"rtx4070super", "4070super"}, 12},
    {"RTX4070", {"rtx4070", "4070"}, 12},
    {"RTX4060TI", {"rtx4060ti", "4060ti"}, 0},
    {"RTX4060", {"rtx4060", "4060"}, 8},
    {"RTX3090TI", {"rtx3090ti", "3090ti"}, 24},
    {"RTX3090", {"rtx3090", "3090"}, 24},
    {"RTX3080TI", {"rtx3080ti", "3080ti"}, 12},
    {"RTX3080", {"rtx3080", "3080"}, 0},
    {"RTX3070TI", {"rtx3070ti", "3070ti"}, 8},
    {"RTX3070", {"rtx3070", "3070"}, 8},
    {"RTX3060TI", {"rtx3060ti", "3060ti"}, 8},
    {"RTX3060", {"rtx3060", "3060"}, 12},
    {"RTX2080TI", {"rtx2080ti", "2080ti"}, 11},
    {"RTX2080", {"rtx2080", "2080"}, 8},
    {"GTX1080TI", {"gtx1080ti", "1080ti"}, 11},
    {"GTX1080", {"gtx1080", "1080"}, 8},
    /* AMD; the kernel names both dies of one card family in one breath */
    {"MI355X", {"mi355x"}, 288},
    {"MI325X", {"mi325x"}, 256},
    {"MI300X", {"mi300x"}, 192},
    {"MI300A", {"mi300a"}, 128},
    {"MI250X", {"mi250x", "mi250xmi250"}, 128},
    {"MI250", {"mi250"}, 128},
    {"MI210", {"mi210"}, 64},
    {"MI100", {"mi100"}, 32},
    {"MI60", {"mi60"}, 32},
    {"MI50", {"mi50"}, 0},
    {"RX7900XTX", {"rx7900xtx", "7900xtx"}, 24},
    {"RX7900XT", {"rx7900xt", "7900xt"}, 20},
};

enum { TYPES = sizeof(types) / sizeof(types[0]) };

/* Words that do not tell one chip from another. */
static const char *const noise_words[] = {
    "nvidia",   "corporation", "geforce", "tesla",       "quadro", "amd",
    "instinct", "radeon",      "gpu",     "graphics",    "card",   "generation",
    "pcie",     "nvl",         "oam",     "dgxs",        "tensor", "core",
    "server",   "workstation", "edition", "accelerator",
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "80gb", "sxm4", "hbm3e" */
static bool is_form(const char *word, size_t n)
{
    if (n > 2 && is_digit(word[0]) && word[n - 2] == 'g' && word[n - 1] == 'b') {
        for (size_t i = 0; i < n - 2; i++)
            if (!is_digit(word[i]))
                return false;
        return true;
    }
    return n >= 3 && n <= 5 && (memcmp(word, "sxm", 3) == 0 || memcmp(word, "hbm", 3) == 0);
}

static bool is_noise(const char *word, size_t n)
{
    for (size_t i = 0; i < sizeof(noise_words) / sizeof(noise_words[0]); i++)
        if (strlen(noise_words[i]) == n && memcmp(noise_words[i], word, n) == 0)
            return true;
    return is_form(word, n);
}

/* What is left of a name when everything that does not matter is gone. */
static void name_key(const char *name, char to[GPU_TYPE_SIZE])
{
    size_t len = 0;
    while (*name != '\0') {
        char word[GPU_TYPE_SIZE];
        size_t n = 0;
        for (; *name != '\0'; name++) {
            char c = *name >= 'A' && *name <= 'Z' ? (char)(*name + ('a' - 'A')) : *name;
            /* Bytes above ASCII stay: an unknown name in another script is still a name. */
            bool counts = (c >= 'a' && c <= 'z') || is_digit(c) || (unsigned char)c >= 0x80;
            if (!counts)
                break;
            if (n < sizeof(word) - 1)
                word[n++] = c;
        }
        if (*name != '\0')
            name++;
        if (n == 0 || is_noise(word, n) || len + n >= GPU_TYPE_SIZE)
            continue;
        memcpy(to + len, word, n);
        len += n;
    }
    to[len] = '\0';
}

static const struct type_row *type_find(const char *name)
{
    char key[GPU_TYPE_SIZE];
    name_key(name, key);
    for (size_t i = 0; i < TYPES; i++)
        for (size_t k = 0; k < 3 && types[i].keys[k] != NULL; k++)
            if (strcmp(types[i].keys[k], key) == 0)
                return &types[i];
    return NULL;
}

const char *gpu_type_of(const char *name, char to[GPU_TYPE_SIZE])
{
    const struct type_row *row = type_find(name);
    if (row != NULL) {
        snprintf(to, GPU_TYPE_SIZE, "%s", row->type);
        return to;
    }
    while (*name == ' ' || *name == '\t')
        name++;
    size_t n = strlen(name);
    if (n >= GPU_TYPE_SIZE) {
        n = GPU_TYPE_SIZE - 1;
        while (n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80)
            n--; /* not inside a character */
    }
    while (n > 0 && (name[n - 1] == ' ' || name[n - 1] == '\t'))
        n--;
    memmove(to, name, n);
    to[n] = '\0';
    return to;
}

bool gpu_type_same(const char *a, const char *b)
{
    const struct type_row *row_a = type_find(a), *row_b = type_find(b);
    if (row_a != NULL || row_b != NULL)
        return row_a == row_b;
    char key_a[GPU_TYPE_SIZE], key_b[GPU_TYPE_SIZE];
    name_key(a, key_a);
    name_key(b, key_b);
    if (key_a[0] == '\0' || key_b[0] == '\0')
        return strcmp(a, b) == 0; /* nothing but words that do not count */
    return strcmp(key_a, key_b) == 0;
}

int gpu_type_memory_gib(const char *name)
{
    const struct type_row *row = type_find(name);
    return row != NULL ? row->memory_gib : 0;
}

const char *gpu_type_at(size_t i)
{
    return i < TYPES ? types[i].type : NULL;
}
